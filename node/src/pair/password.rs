//! The password at a pairing: with it the root key admits the new device, and not the device that shows the window.
//!
//! So a device that may not let others in can do it with the password in hand, and the registry says that root has signed. The key is in
//! memory as long as the window is open. Guards against wrong passwords by what a try costs (Argon2id, 64 MiB).

use ownmesh_crypto::{Keyslot, KeyslotError, KeyslotKind, RootKeys};

use crate::command::{CommandError, Kind};

/// The root key, out of the first keyslot that the password opens.
///
/// # Errors
/// No keyslot is for a password, or none opens.
pub(crate) fn unlock_root(slots: &[Vec<u8>], password: &str) -> Result<RootKeys, CommandError> {
    let slots = slots.iter().filter_map(|bytes| Keyslot::parse(bytes).ok());
    let mut known = false;
    for slot in slots.filter(|slot| slot.kind() == KeyslotKind::Password) {
        known = true;
        match slot.open_password(password) {
            Ok(master) => {
                let of = slot.of();
                return Ok(master.root(&of.mesh_salt, of.generation));
            }
            Err(KeyslotError::WrongPassword) => {}
            Err(error) => return Err(CommandError::failed(error.to_string())),
        }
    }
    if known {
        return Err(CommandError::new(
            Kind::WrongSecret,
            "that is not the password of this mesh",
        ));
    }
    Err(CommandError::refused("this mesh has no password")
        .hint("leave --password-file away, and MESH_PASSWORD unset"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ownmesh_crypto::{KeyslotFor, MasterKey, MeshId, Phrase};
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    /// Security test 16.
    #[test]
    fn only_the_password_opens_the_root() {
        let mut rng = StdRng::seed_from_u64(1);
        let master = MasterKey::random(&mut rng);
        let of = KeyslotFor {
            mesh_id: MeshId::from_bytes([1; 16]),
            mesh_salt: [2; 16],
            generation: 0,
        };
        let phrase = Phrase::generate(&mut rng);
        let by_phrase = Keyslot::seal_phrase(&master, of.clone(), &phrase, &mut rng).to_bytes();
        let kind = |slots: &[Vec<u8>], password| unlock_root(slots, password).map_err(|e| e.kind);
        assert!(matches!(
            kind(std::slice::from_ref(&by_phrase), "a long password"),
            Err(Kind::Refused)
        ));
        let by_password = Keyslot::seal_password(&master, of, "a long password", &mut rng).unwrap();
        let slots = [by_phrase, by_password.to_bytes()];
        assert!(matches!(
            kind(&slots, "another password"),
            Err(Kind::WrongSecret)
        ));
        let root = kind(&slots, "a long password").unwrap();
        assert_eq!(root.root_public(), master.root(&[2; 16], 0).root_public());
    }
}
