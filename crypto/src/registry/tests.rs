//! The registry: who may state what, and that the view is a function of the set.

use super::*;
use crate::ids::{KeyId, SpaceId};
use crate::keys::DeviceKeys;
use crate::master::{MasterKey, RootKeys};
use crate::space::EpochKey;
use crate::testing::{keys, low_order, rng};
use proptest::prelude::*;
use rand::rngs::StdRng;

const SALT: [u8; 16] = [3; 16];
const DOCS: SpaceId = SpaceId::from_bytes([7; 16]);

/// A mesh with a laptop which may add, and pass on, and a NAS the laptop has added.
struct World {
    rng: StdRng,
    root: RootKeys,
    laptop: DeviceKeys,
    nas: DeviceKeys,
    set: Registry,
}

impl World {
    fn new() -> Self {
        let mut rng = rng(1);
        let root = MasterKey::random(&mut rng).root(&SALT, 0);
        let (laptop, nas) = (keys(&mut rng), keys(&mut rng));
        let genesis = genesis(&root, SALT, "home", 1).unwrap();
        let mut world = Self {
            rng,
            root,
            laptop,
            nas,
            set: Registry::new(genesis.bytes()).unwrap(),
        };
        let laptop = world.device(By::Root(&world.root), "laptop", &world.laptop);
        world.must(&laptop);
        let mesh = world.mesh();
        let delegate = delegation(
            By::Root(&world.root),
            &mesh,
            world.laptop.device_id(),
            true,
            2,
        )
        .unwrap();
        world.must(&delegate);
        let nas = world.device(By::Device(&world.laptop), "nas", &world.nas);
        world.must(&nas);
        world
    }

    fn mesh(&self) -> MeshId {
        self.set.view().mesh_id
    }

    fn device(&self, by: By<'_>, name: &str, keys: &DeviceKeys) -> Statement {
        device(
            by,
            &self.mesh(),
            name,
            "linux",
            &keys.card(),
            JoinPath::Ticket,
            3,
        )
        .unwrap()
    }

    fn insert(&mut self, statement: &Statement) -> Result<Inserted, StatementError> {
        self.set.insert(statement.bytes())
    }

    fn must(&mut self, statement: &Statement) {
        assert_eq!(self.insert(statement), Ok(Inserted::New));
    }

    /// A space with one epoch, granted to everybody.
    fn docs(&mut self) -> EpochKey {
        let mesh = self.mesh();
        let key = EpochKey::random(&mut self.rng);
        self.must(&space(&self.laptop, &mesh, DOCS, "docs", SpaceKind::Folder, 4).unwrap());
        self.must(&epoch(&self.laptop, &mesh, DOCS, 0, &key, 5).unwrap());
        let all: Vec<DeviceId> = self.set.view().devices.keys().copied().collect();
        let grant = grants(
            &self.laptop,
            self.set.view(),
            &DOCS,
            &key,
            &all,
            6,
            &mut self.rng,
        )
        .unwrap();
        self.must(&grant);
        key
    }
}

#[test]
fn a_mesh_grows() {
    let mut world = World::new();
    let key = world.docs();
    let view = world.set.view();
    assert_eq!(
        (
            view.mesh_name.as_str(),
            view.devices.len(),
            view.spaces.len()
        ),
        ("home", 2, 1)
    );
    let nas = &view.devices[&world.nas.device_id()];
    assert_eq!(
        (nas.name.as_str(), nas.may_add, nas.added_by),
        ("nas", false, Signer::Device(world.laptop.device_id()))
    );
    let laptop = &view.devices[&world.laptop.device_id()];
    assert!(laptop.may_add && laptop.may_pass_on && laptop.added_by == Signer::Root);
    let current = view.current_epoch(&DOCS).unwrap();
    assert_eq!(view.ungranted(current).count(), 0);
    for device in [&world.laptop, &world.nas] {
        assert_eq!(open_grant(device, &DOCS, current), Ok(key.clone()));
    }
    assert_eq!(open_recovery(&world.root, &DOCS, current), Ok(key.clone()));
    let stranger = keys(&mut world.rng);
    assert_eq!(
        open_grant(&stranger, &DOCS, current),
        Err(GrantError::NotGranted(key.id))
    );
    assert_eq!(view.current_epoch(&SpaceId::from_bytes([0; 16])), None);
}

/// Security test 23.
#[test]
fn known_ones_are_known() {
    let mut world = World::new();
    let (digest, all): (_, Vec<Statement>) = (
        world.set.digest(),
        world.set.statements().cloned().collect(),
    );
    for statement in &all {
        assert_eq!(world.insert(statement), Ok(Inserted::Known));
        assert_eq!(world.set.get(&statement.hash()), Some(statement));
    }
    assert_eq!(world.set.digest(), digest);
}

#[test]
fn peers_find_out_what_they_lack() {
    let mut world = World::new();
    let before = world.set.clone();
    world.docs();
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (world.set.hashes().collect(), before.hashes().collect());
    assert_eq!(world.set.missing(&theirs), []);
    assert_eq!(before.missing(&ours).len(), 3);
    let mut updated = before.clone();
    for statement in world.set.lacking(&theirs) {
        assert_eq!(updated.insert(statement.bytes()), Ok(Inserted::New));
    }
    assert_eq!(
        (updated.digest(), updated.view()),
        (world.set.digest(), world.set.view())
    );
    assert_ne!(before.digest(), updated.digest());
}

#[test]
fn a_strangers_word_waits_for_its_admission() {
    let mut world = World::new();
    let phone = keys(&mut world.rng);
    let mesh = world.mesh();
    let admission = world.device(By::Device(&world.laptop), "phone", &phone);
    let music = space(
        &phone,
        &mesh,
        SpaceId::from_bytes([8; 16]),
        "music",
        SpaceKind::Records,
        9,
    )
    .unwrap();
    let (digest, before) = (world.set.digest(), world.set.len());
    assert_eq!(world.insert(&music), Ok(Inserted::Pending));
    assert_eq!(world.insert(&music), Ok(Inserted::Pending));
    assert_eq!((world.set.pending(), world.set.digest()), (1, digest));
    assert!(world.set.view().spaces.is_empty());
    assert_eq!(world.insert(&admission), Ok(Inserted::New));
    assert_eq!((world.set.pending(), world.set.len()), (0, before + 2));
    assert_eq!(world.set.view().spaces.len(), 1);
    let new: Vec<_> = world
        .set
        .statements()
        .skip(before)
        .map(Statement::hash)
        .collect();
    assert_eq!(new, [admission.hash(), music.hash()]);
}

#[test]
fn a_pending_forgery_is_dropped_when_its_signer_is_known() {
    let mut world = World::new();
    let phone = keys(&mut world.rng);
    let mesh = world.mesh();
    let mut forged = space(&phone, &mesh, DOCS, "docs", SpaceKind::Folder, 9)
        .unwrap()
        .bytes()
        .to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(world.set.insert(&forged), Ok(Inserted::Pending));
    let admission = world.device(By::Device(&world.laptop), "phone", &phone);
    world.must(&admission);
    assert_eq!(world.set.pending(), 0);
    assert!(world.set.view().spaces.is_empty());
    assert_eq!(world.set.insert(&forged), Err(StatementError::BadSignature));
}

/// Security test 79.
#[test]
fn pending_is_bounded() {
    let mut world = World::new();
    let stranger = keys(&mut world.rng);
    let mesh = world.mesh();
    for number in 0..MAX_PENDING as u64 + 10 {
        let statement = space(&stranger, &mesh, DOCS, "docs", SpaceKind::Folder, number).unwrap();
        assert_eq!(world.insert(&statement), Ok(Inserted::Pending));
    }
    assert_eq!(world.set.pending(), MAX_PENDING);
}

/// The NAS may not add: neither by adding, nor by giving itself the right, nor through an accomplice.
/// Security test 24.
#[test]
fn nobody_escalates_itself() {
    let mut world = World::new();
    let (thief, mesh) = (keys(&mut world.rng), world.mesh());
    let (nas_id, thief_id) = (world.nas.device_id(), thief.device_id());
    let attempts = [
        world.device(By::Device(&world.nas), "thief", &thief),
        delegation(By::Device(&world.nas), &mesh, nas_id, true, 1).unwrap(),
        delegation(By::Device(&world.nas), &mesh, thief_id, true, 1).unwrap(),
        delegation(By::Device(&thief), &mesh, nas_id, true, 1).unwrap(),
        world.device(By::Device(&thief), "thief", &thief),
        // a root of its own
        delegation(
            By::Root(&MasterKey::random(&mut world.rng).root(&SALT, 0)),
            &mesh,
            nas_id,
            true,
            1,
        )
        .unwrap(),
    ];
    let digest = world.set.digest();
    for attempt in &attempts[..5] {
        assert_eq!(world.insert(attempt), Ok(Inserted::Pending));
    }
    assert_eq!(
        world.insert(&attempts[5]),
        Err(StatementError::BadSignature)
    );
    assert_eq!(world.set.digest(), digest);
    assert_eq!(world.set.view().devices.len(), 2);
    // Once really entitled, what it said counts, in whatever order it came.
    world.must(&delegation(By::Device(&world.laptop), &mesh, nas_id, false, 1).unwrap());
    assert!(world.set.view().devices.contains_key(&thief_id));
    let nas = &world.set.view().devices[&nas_id];
    assert!(
        nas.may_add && !nas.may_pass_on,
        "may add, but has not let itself pass it on"
    );
    assert!(!world.set.view().devices[&thief_id].may_add);
}

/// Security test 24.
#[test]
fn a_delegates_device_cannot_replace_keys() {
    let mut world = World::new();
    let thief = keys(&mut world.rng);
    let mut card = world.nas.card();
    card.public.seal = thief.public().seal;
    let refused = device(
        By::Device(&world.laptop),
        &world.mesh(),
        "nas",
        "linux",
        &card,
        JoinPath::Ticket,
        1,
    );
    assert_eq!(refused, Err(StatementError::BadCard));
    for point in low_order() {
        let mut card = world.nas.card();
        card.public.seal = point;
        assert!(
            device(
                By::Device(&world.laptop),
                &world.mesh(),
                "nas",
                "x",
                &card,
                JoinPath::Ticket,
                1
            )
            .is_err()
        );
    }
}

#[test]
fn root_beats_delegates_and_hashes_settle_the_rest() {
    let mut world = World::new();
    let nas_id = world.nas.device_id();
    let again = world.device(By::Root(&world.root), "nas by root", &world.nas);
    world.must(&again);
    assert_eq!(world.set.view().devices[&nas_id].name, "nas by root");
    let third = world.device(By::Device(&world.laptop), "nas by laptop", &world.nas);
    world.must(&third);
    assert_eq!(world.set.view().devices[&nas_id].name, "nas by root");
}

/// Security test 23.
#[test]
fn other_meshes_and_roots_are_refused() {
    let mut world = World::new();
    let other_root = MasterKey::random(&mut world.rng).root(&SALT, 0);
    let other = genesis(&other_root, SALT, "home", 1).unwrap();
    assert_eq!(
        world.insert(&other),
        Err(StatementError::OtherMesh(other.mesh_id()))
    );
    let foreign = space(
        &world.laptop,
        &other.mesh_id(),
        DOCS,
        "docs",
        SpaceKind::Folder,
        1,
    )
    .unwrap();
    assert_eq!(
        world.insert(&foreign),
        Err(StatementError::OtherMesh(other.mesh_id()))
    );
    // a genesis naming another root than signed it
    let mut stolen = other.bytes().to_vec();
    let at = stolen
        .windows(32)
        .position(|w| w == other_root.root_public())
        .unwrap();
    stolen[at..at + 32].copy_from_slice(&world.root.root_public());
    assert_eq!(
        Registry::new(&stolen).map(|_| ()),
        Err(StatementError::BadSignature)
    );
    assert_eq!(
        Registry::new(foreign.bytes()).map(|_| ()),
        Err(StatementError::Malformed)
    );
}

/// Security test 23.
#[test]
fn every_flipped_bit_is_noticed() {
    let mut world = World::new();
    world.docs();
    let all: Vec<Statement> = world.set.statements().cloned().collect();
    let (digest, view) = (world.set.digest(), world.set.view().clone());
    for statement in &all[1..] {
        for bit in (0..statement.bytes().len() * 8).step_by(7) {
            let mut bad = statement.bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(
                !matches!(world.set.insert(&bad), Ok(Inserted::New | Inserted::Known)),
                "bit {bit}"
            );
        }
        for end in 0..statement.bytes().len() {
            assert!(world.set.insert(&statement.bytes()[..end]).is_err());
        }
    }
    assert_eq!((world.set.digest(), world.set.view()), (digest, &view));
}

/// Security test 24.
#[test]
fn the_root_speaks_of_devices_alone() {
    let mut world = World::new();
    let (mesh, root) = (world.mesh(), &world.root);
    let by_root = |body: &Body| {
        Statement::sign(Some(&mesh), Signer::Root, body, |label, bytes| {
            root.sign(label, bytes)
        })
        .unwrap()
    };
    let body = space(&world.laptop, &mesh, DOCS, "docs", SpaceKind::Folder, 1)
        .unwrap()
        .body()
        .clone();
    let statement = by_root(&body);
    assert_eq!(world.insert(&statement), Err(StatementError::NotAllowed));
}

/// Security test 79.
#[test]
fn newer_versions_are_named() {
    let world = World::new();
    let with = |at: usize, byte| {
        let mut bytes = world.set.statements().last().unwrap().bytes().to_vec();
        bytes[at] = byte;
        Statement::parse(&bytes).map(|_| ())
    };
    assert_eq!(
        with(0, 1),
        Err(StatementError::UnsupportedVersion {
            version: 1,
            suite: 1
        })
    );
    assert_eq!(
        with(1, 2),
        Err(StatementError::UnsupportedVersion {
            version: 0,
            suite: 2
        })
    );
    assert_eq!(with(2, 9), Err(StatementError::UnknownKind(9)));
    assert_eq!(
        Statement::parse(&[0; MAX_STATEMENT + 1]),
        Err(StatementError::TooLarge)
    );
}

#[test]
fn names_are_for_people() {
    let world = World::new();
    let root = &world.root;
    for name in ["", "two\nlines", "\u{1b}[2J", &"x".repeat(129)] {
        assert_eq!(
            genesis(root, SALT, name, 0),
            Err(StatementError::BadName),
            "{name:?}"
        );
    }
    assert!(genesis(root, SALT, &"ü".repeat(64), 0).is_ok());
}

/// Of names that devices gave one after the other the last one stands, on all.
#[test]
fn the_name_given_last_stands() {
    let mut world = World::new();
    let nas = world.nas.device_id();
    let named = |world: &World, by: &DeviceKeys, text: &str| {
        name(by, world.set.view(), nas, text, 1).unwrap()
    };
    let (one, two) = (
        named(&world, &world.laptop, "cellar"),
        named(&world, &world.nas, "attic"),
    );
    world.must(&one);
    let after_one = named(&world, &world.laptop, "shed");
    world.must(&two);
    let lower = if one.hash() < two.hash() {
        "cellar"
    } else {
        "attic"
    };
    assert_eq!(world.set.view().devices[&nas].name, lower);
    world.must(&after_one);
    assert_eq!(world.set.view().devices[&nas].name, "shed");
    assert_eq!(world.set.view().renamed(&nas), 2);
    // Admitted once more by the root: what it was called at first does not come back.
    let again = world.device(By::Root(&world.root), "nas", &world.nas);
    world.must(&again);
    assert_eq!(world.set.view().devices[&nas].name, "shed");
    assert!(name(&world.nas, world.set.view(), nas, "a\nb", 1).is_err());
}

/// Two devices open an epoch of the same number at once; everybody seals with the same one and reads both.
/// Security test 25.
#[test]
fn concurrent_epochs() {
    let mut world = World::new();
    let first = world.docs();
    let mesh = world.mesh();
    let (one, two) = (
        EpochKey::random(&mut world.rng),
        EpochKey::random(&mut world.rng),
    );
    let by_laptop = epoch(&world.laptop, &mesh, DOCS, 1, &one, 1).unwrap();
    let by_nas = epoch(&world.nas, &mesh, DOCS, 1, &two, 1).unwrap();
    world.must(&by_laptop);
    world.must(&by_nas);
    let lowest = by_laptop.hash().min(by_nas.hash());
    let current = world.set.view().current_epoch(&DOCS).unwrap();
    assert_eq!((current.number, current.statement), (1, lowest));
    assert_eq!(world.set.view().epochs[&DOCS].len(), 3);
    assert_eq!(world.set.view().epoch(&DOCS, &first.id).unwrap().number, 0);
    assert_eq!(world.set.view().ungranted(current).count(), 2);
}

/// A member publishes rubbish in the place of another's grant: the good copy still opens.
/// Security test 25.
#[test]
fn a_bad_grant_hides_no_good_one() {
    let mut world = World::new();
    let key = world.docs();
    let wrong = EpochKey::from_parts(key.id, [0; 32]);
    let id = world.nas.device_id();
    let rubbish = grants(
        &world.laptop,
        world.set.view(),
        &DOCS,
        &wrong,
        &[id],
        1,
        &mut world.rng,
    )
    .unwrap();
    world.must(&rubbish);
    let current = world.set.view().current_epoch(&DOCS).unwrap();
    assert_eq!(current.grants[&id].len(), 2);
    assert_eq!(open_grant(&world.nas, &DOCS, current), Ok(key.clone()));
    // alone, it is recognised
    let mut only_rubbish = current.clone();
    only_rubbish.key_commit = [1; 32];
    assert_eq!(
        open_grant(&world.nas, &DOCS, &only_rubbish),
        Err(GrantError::Invalid(key.id))
    );
    // a grant moved to another key's name does not open
    let mut renamed = current.clone();
    renamed.key_id = KeyId::from_bytes([0; 16]);
    assert!(open_grant(&world.nas, &DOCS, &renamed).is_err());
    let unknown = grants(
        &world.laptop,
        world.set.view(),
        &DOCS,
        &key,
        &[DeviceId::from_bytes([1; 16])],
        1,
        &mut world.rng,
    );
    assert!(matches!(unknown, Err(StatementError::UnknownRecipient(_))));
}

#[test]
fn two_devices_make_one_space() {
    let mut world = World::new();
    let mesh = world.mesh();
    let by_laptop = space(&world.laptop, &mesh, DOCS, "docs", SpaceKind::Folder, 1).unwrap();
    let by_nas = space(&world.nas, &mesh, DOCS, "docs", SpaceKind::Records, 1).unwrap();
    world.must(&by_laptop);
    world.must(&by_nas);
    assert_eq!(world.set.view().spaces.len(), 1);
    assert_eq!(
        world.set.view().spaces[&DOCS].statement,
        by_laptop.hash().min(by_nas.hash())
    );
}

/// Security test 79.
#[test]
fn a_full_registry_refuses() {
    let mut world = World::new();
    let mesh = world.mesh();
    for _ in 2..2 * MAX_DEVICES {
        let keys = keys(&mut world.rng);
        let device = world.device(By::Device(&world.laptop), "same name", &keys);
        world.must(&device);
    }
    let one_more = keys(&mut world.rng);
    let device = world.device(By::Device(&world.laptop), "one more", &one_more);
    assert_eq!(world.insert(&device), Err(StatementError::Full));
    world.must(&space(&world.laptop, &mesh, DOCS, "docs", SpaceKind::Folder, 1).unwrap());
}

mod clocks;
mod order;

proptest! {
    #[test]
    fn parse_never_panics(bytes: Vec<u8>, kind in 0u8..8, payload: Vec<u8>) {
        let _ = Statement::parse(&bytes);
        let mut framed = vec![0, 1, kind];
        framed.extend_from_slice(&[0; 32]);
        framed.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        framed.extend_from_slice(&payload);
        framed.extend_from_slice(&[0; 64]);
        let _ = Statement::parse(&framed);
    }
}
