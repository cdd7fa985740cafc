//! Tests of the home's layout, its protection, and of crashes while it is made.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn home(dir: &TempDir) -> Home {
    Home::locate(Some(&dir.path().join("home"))).unwrap()
}

fn init(home: &Home) -> Fresh {
    home.init("laptop", None, &mut rng()).unwrap()
}

#[test]
fn what_is_made_is_complete_and_private() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    assert_eq!(home.state(), HomeState::Blank);
    assert!(matches!(home.load_seed(), Err(HomeError::NoMesh(_))));
    let fresh = init(&home);
    assert_eq!(home.state(), HomeState::Mesh);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (
            mode(home.root()),
            mode(&home.seed_path()),
            mode(&home.keyslots_dir())
        ),
        (0o700, 0o600, 0o700)
    );
    let slots = home.keyslots().unwrap();
    assert_eq!(slots, fresh.keyslots);
    let master = slots[0].open_phrase(&fresh.phrase).unwrap();
    let root = master.root(&slots[0].of().mesh_salt, 0);
    let mut registry = ownmesh_crypto::Registry::new(&fresh.statements[0]).unwrap();
    for statement in &fresh.statements[1..] {
        assert_eq!(
            registry.insert(statement).unwrap(),
            ownmesh_crypto::registry::Inserted::New
        );
    }
    assert_eq!(registry.view().mesh_id, fresh.mesh_id);
    assert_eq!(registry.view().recovery_public, root.recovery_public());
    let id = ownmesh_crypto::DeviceKeys::from_seed(&home.load_seed().unwrap()).device_id();
    assert!(registry.view().devices.contains_key(&id));
}

#[test]
fn a_second_mesh_in_one_home_is_refused() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    let seed = fs::read(home.seed_path()).unwrap();
    assert!(matches!(
        home.init("again", None, &mut rng()),
        Err(InitError::HasMesh(_))
    ));
    assert_eq!(fs::read(home.seed_path()).unwrap(), seed);
}

#[test]
fn a_home_half_made_is_made_again_but_a_lost_seed_is_not() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    // As a crash right before the seed leaves it.
    fs::remove_file(home.seed_path()).unwrap();
    fs::write(home.making_path(), "").unwrap();
    fs::write(home.seed_path().with_extension("new"), "half").unwrap();
    assert_eq!(home.state(), HomeState::HalfMade);
    let fresh = init(&home);
    assert_eq!(home.keyslots().unwrap(), fresh.keyslots);
    assert!(!home.making_path().exists());
    // As a crash right after the seed leaves it.
    fs::write(home.making_path(), "").unwrap();
    assert_eq!(home.state(), HomeState::Mesh);
    drop(home.lock().unwrap());
    assert!(!home.making_path().exists());
    fs::remove_file(home.seed_path()).unwrap();
    assert!(matches!(
        home.init("again", None, &mut rng()),
        Err(InitError::Home(HomeError::SeedLost(_)))
    ));
    assert!(home.db_path().exists());
}

#[test]
fn a_replaced_device_is_set_aside() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    let old = fs::read(home.seed_path()).unwrap();
    let fresh = Fresh::draw("other", None, &mut rng()).unwrap();
    drop(home.claim_replacing().unwrap().keep(&fresh).unwrap());
    assert_eq!(home.keyslots().unwrap(), fresh.keyslots);
    assert_eq!(
        fs::read(home.root().join("replaced-1/device.seed")).unwrap(),
        old
    );
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    fs::create_dir(home.root()).unwrap();
    fs::write(home.root().join("letter"), "dear").unwrap();
    assert!(
        matches!(home.init("laptop", None, &mut rng()), Err(InitError::NotEmpty(_, name)) if name == "letter")
    );
    assert_eq!(fs::read_dir(home.root()).unwrap().count(), 1);
}

/// Security test 58.
#[test]
fn seeds_that_are_exposed_linked_or_cut_are_refused() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    let seed = home.seed_path();
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(home.load_seed(), Err(HomeError::Exposed(_))));
    fs::set_permissions(&seed, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(home.load_seed().is_ok());
    let bytes = fs::read(&seed).unwrap();
    for wrong in [&bytes[..31], &[&bytes[..], b"x"].concat()] {
        fs::write(&seed, wrong).unwrap();
        assert!(
            matches!(home.load_seed(), Err(HomeError::NotASeed(_))),
            "{}",
            wrong.len()
        );
    }
    let aside = dir.path().join("aside");
    fs::rename(&seed, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &seed).unwrap();
    assert!(matches!(home.load_seed(), Err(HomeError::Io { .. })));
}

/// Only root can give a file away; another user's seed is refused by whoever reads it.
/// Security test 58.
#[test]
fn a_seed_of_another_user_is_refused() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    let seed = home.seed_path();
    if std::os::unix::fs::chown(&seed, Some(65_534), None).is_err() {
        return;
    }
    assert!(matches!(home.load_seed(), Err(HomeError::Owner(path)) if path == seed));
}

#[test]
fn the_lock_names_its_holder() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    assert!(home.holder().is_none());
    let lock = home.lock().unwrap();
    assert!(
        matches!(home.lock(), Err(HomeError::Held { pid: Some(pid), .. }) if pid == std::process::id())
    );
    assert!(home.holder().is_some());
    drop(lock);
    assert!(home.holder().is_none());
    assert!(home.lock().is_ok());
}

#[test]
fn a_socket_path_always_fits() {
    let dir = TempDir::new().unwrap();
    let short = home(&dir);
    assert_eq!(short.socket().unwrap(), short.root().join("api.sock"));
    let long = Home::locate(Some(&dir.path().join("x".repeat(120)))).unwrap();
    let other = Home::locate(Some(&dir.path().join("y".repeat(120)))).unwrap();
    assert!(long.socket_elsewhere() && long.socket().unwrap().as_os_str().len() <= MAX_SOCKET_PATH);
    assert_ne!(long.socket().unwrap(), other.socket().unwrap());
}

#[test]
fn a_home_has_one_name_before_and_after_it_is_made() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
    let path = dir.path().join("link/a/home");
    let before = Home::locate(Some(&path)).unwrap();
    fs::create_dir_all(&path).unwrap();
    assert_eq!(before, Home::locate(Some(&path)).unwrap());
}

#[test]
fn a_phrase_is_remembered_until_its_file_is_gone() {
    let dir = TempDir::new().unwrap();
    let home = home(&dir);
    init(&home);
    let file = dir.path().join("words");
    write_new_secret(&file, b"abandon").unwrap();
    assert!(matches!(
        write_new_secret(&file, b"again"),
        Err(HomeError::Io { .. })
    ));
    home.remind_of_phrase(&file).unwrap();
    assert_eq!(home.phrase_reminder(), Some(file.clone()));
    fs::remove_file(&file).unwrap();
    assert_eq!(home.phrase_reminder(), None);
}
