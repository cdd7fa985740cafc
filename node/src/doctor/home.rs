//! The home: who may read it, what is in it, whether there is room.

use std::path::Path;

use super::Check;
use crate::command::CommandError;
use crate::db::{Connection, DbError, events, schema, spaces};
use crate::home::{Home, free_bytes, why_no_database};
use crate::status::Time;

/// With less than this free, bytes, the database soon cannot be written.
const ROOM: (u64, u64) = (64 << 20, 1 << 30);
/// A clock before this moment was never set (2025-01-01), ms.
const BEFORE: i64 = 1_735_689_600_000;
/// How far the clock may lie behind what it showed before, ms.
const BACK: i64 = 3_600_000;

/// Permissions, keys, room, the file of the phrase.
pub(super) fn checks(home: &Home) -> Vec<Check> {
    let root = home.root();
    let mut out = vec![permissions(home), seed(home), room(root)];
    out.push(match home.phrase_reminder() {
        None => Check::fine(
            "phrase",
            "no file with the recovery phrase is known to lie about",
        ),
        Some(file) => {
            let file = file.display().to_string();
            Check::wrong(
                "phrase",
                format!("the recovery phrase still lies in {file}"),
                format!("write it on paper, then delete the file: rm {file}"),
            )
            .about(file)
        }
    });
    out
}

#[cfg(unix)]
fn permissions(home: &Home) -> Check {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let root = home.root();
    let mut private = vec![
        (root.to_path_buf(), "700"),
        (home.keyslots_dir(), "700"),
        (home.db_path(), "600"),
        (home.seed_path(), "600"),
    ];
    let slots = std::fs::read_dir(home.keyslots_dir()).into_iter().flatten();
    private.extend(slots.flatten().map(|slot| (slot.path(), "600")));
    let us = rustix::process::geteuid().as_raw();
    for (path, mode) in private {
        let Ok(meta) = path.symlink_metadata() else {
            continue;
        };
        let path = path.display().to_string();
        if meta.uid() != us {
            let finding = format!("{path} belongs to another user");
            return Check::wrong(
                "home",
                finding,
                format!("chown it to yourself: sudo chown $(id -u) {path}"),
            )
            .about(path);
        }
        if meta.permissions().mode() & 0o077 != 0 {
            let finding = format!("other users of this machine can reach {path}");
            return Check::wrong("home", finding, format!("chmod {mode} {path}")).about(path);
        }
    }
    Check::fine("home", format!("{} is yours alone", root.display()))
}

#[cfg(not(unix))]
fn permissions(home: &Home) -> Check {
    Check::note(
        "home",
        format!(
            "who may read {} is not looked at on this system",
            home.root().display()
        ),
        "",
    )
}

fn seed(home: &Home) -> Check {
    let read = home.load_seed().map(drop);
    match read.and_then(|()| home.keyslots().map(|slots| slots.len())) {
        Ok(slots) => Check::note(
            "keys",
            format!(
                "the device's keys lie in a plain file, readable by you alone; {slots} wrapped master key{}",
                if slots == 1 { "" } else { "s" }
            ),
            "who takes the disk has them: encrypt the disk if the device can be lost",
        ),
        Err(error) => {
            let error = CommandError::from(error);
            Check::wrong("keys", error.message, error.hint)
        }
    }
}

fn room(root: &Path) -> Check {
    let (at, remedy) = (root.display().to_string(), "make room on that disk");
    match free_bytes(root) {
        None => Check::note(
            "room",
            format!("how much room is left at {at} is not known"),
            "",
        ),
        Some(free) if free < ROOM.0 => {
            let finding = format!(
                "only {} MB are left on the disk of the home",
                free / 1_000_000
            );
            Check::wrong("room", finding, remedy).about(at)
        }
        Some(free) if free < ROOM.1 => {
            let finding = format!("{} MB are left on the disk of the home", free / 1_000_000);
            Check::note("room", finding, remedy).about(at)
        }
        Some(free) => Check::fine(
            "room",
            format!("{} GB are free for the home", free / 1_000_000_000),
        ),
    }
}

/// Whether SQLite finds the file whole.
pub(super) fn database(conn: &Connection, home: &Home) -> Check {
    if let Ok(found) = schema::version(conn)
        && found > schema::VERSION
    {
        let known = schema::VERSION;
        let finding =
            format!("the database is of version {found}, this program knows up to {known}");
        return Check::wrong("database", finding, "install the newer mesh that made it");
    }
    match schema::damage(conn) {
        Err(error) => unreadable(&error, home),
        Ok(found) => match found.first() {
            None => Check::fine("database", "the database is whole"),
            Some(first) => damaged(home, &format!("the database is damaged: {first}")),
        },
    }
}

/// The database cannot be opened.
pub(super) fn unreadable(error: &DbError, home: &Home) -> Check {
    damaged(home, &why_no_database(error, &home.db_path()))
}

fn damaged(home: &Home, finding: &str) -> Check {
    Check::wrong(
        "database",
        finding,
        "your files are not in it: keep a copy of the home, pair a new one (mesh --home NEW pair -), and join \
         each folder there with mesh add PATH --space NAME --merge",
    )
    .about(home.db_path().display().to_string())
}

/// Whether the operation log is as it was written.
pub(super) fn log(conn: &Connection, home: &Home) -> Check {
    let verdict = match events::verify(conn) {
        Ok(verdict) => verdict,
        Err(error) => return unreadable(&error, home),
    };
    let Some((seq, how)) = verdict.wrong() else {
        return Check::fine("log", "the operation log is as it was written");
    };
    let path = home.db_path().display().to_string();
    Check::wrong(
        "log",
        format!("the operation log was tampered with: entry {seq}: {how}"),
        format!(
            "the entries before it are as they were written (mesh log); find out who wrote to {path}. It stays so in \
             this home: a new one, paired anew, begins a new log"
        ),
    )
    .about(path)
}

/// Whether the clock can be right. It decides nothing, but people read what it says.
pub(super) fn clock(conn: &Connection, now: Time) -> Check {
    let remedy = "set it; on most systems: timedatectl set-ntp true";
    if now.as_millis() < BEFORE {
        return Check::wrong(
            "clock",
            format!("the clock says {now}: it was never set"),
            remedy,
        );
    }
    let newest = spaces::newest_word(conn).unwrap_or(None).unwrap_or(0);
    if newest > now.as_millis().saturating_add(BACK) {
        let then = Time::from_millis(newest);
        let finding = format!("the clock says {now}, but it has said {then} before");
        return Check::wrong("clock", finding, remedy);
    }
    Check::fine("clock", format!("the clock says {now}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;
    use crate::doctor::Level;

    #[test]
    fn a_log_that_was_tampered_with_is_wrong() {
        let mut db = Db::memory().unwrap();
        let home = Home::locate(Some(Path::new("/home/of/nobody"))).unwrap();
        let entry = events::Entry {
            seq: 0,
            at: 1,
            kind: "paired".into(),
            device: None,
            space: None,
            message: "desktop was let in here".into(),
        };
        db.write(|tx| events::append(tx, entry)).unwrap();
        assert_eq!(log(db.read(), &home).level, Level::Ok);
        db.write(|tx| Ok::<_, DbError>(tx.execute("UPDATE event SET message = 'nobody'", [])?))
            .unwrap();
        let found = log(db.read(), &home);
        assert_eq!(found.level, Level::Wrong);
        assert!(found.finding.contains("entry 1"), "{found:?}");
        assert!(!found.remedy.is_empty());
    }

    #[test]
    fn a_clock_that_was_never_set_or_went_back_is_noticed() {
        let db = Db::memory().unwrap();
        let at = |millis| clock(db.read(), Time::from_millis(millis)).level;
        assert_eq!(at(0), Level::Wrong);
        assert_eq!(at(BEFORE + 1), Level::Ok);
        let member = spaces::Member {
            device: ownmesh_crypto::DeviceId::from_bytes([1; 16]),
            joined: true,
            missing: 0,
            missing_bytes: 0,
            items: 0,
            heard: BEFORE + 2 * BACK,
        };
        spaces::put_member(db.read(), 1, &member).unwrap();
        assert_eq!(at(BEFORE + 1), Level::Wrong);
        assert_eq!(at(BEFORE + BACK + 1), Level::Ok);
    }
}
