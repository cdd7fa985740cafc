//! Content from one folder into another's staging folder: real files, an in-process stream between the two sides.

#![allow(clippy::unwrap_used)] // in helpers outside test functions a failure is as loud

#[path = "content/kit.rs"]
mod kit;
#[path = "content/liars.rs"]
mod liars;
#[path = "content/moody.rs"]
mod moody;

use std::time::Duration;

use kit::{Cut, Road, Side, noise, run};
use ownmesh_node::content::wire::{Ask, Head, Status};
use ownmesh_node::content::{FetchError, answer};
use ownmesh_node::disk::RelPath;

const MIB: usize = 1 << 20;

#[test]
fn five_thousand_small_files() {
    let (ours, theirs) = (Side::new(), Side::new());
    for n in 0..5000u64 {
        theirs.write(
            &format!("d{}/{n}", n % 7),
            &noise(n, (n as usize * 37) % 9000),
        );
    }
    let mut wants = theirs.scan();
    wants.retain(|want| want.size > 0);
    wants.push(theirs.want_for("d0/0"));
    let fetched = run(ours.fetch(&Road::to(&theirs), wants.clone()));
    assert_eq!(fetched.len(), wants.len());
    let mut net = 0;
    for (want, fetched) in wants.iter().zip(&fetched) {
        assert_eq!(want, &fetched.want);
        let ok = fetched.result.as_ref().unwrap();
        assert_eq!(
            (ok.meta.size, ok.meta.mode, ok.meta.mtime_ns),
            (want.size, want.mode, want.mtime)
        );
        assert_eq!(ours.staged_hash(want), want.hash);
        net += ok.from_net;
    }
    assert_eq!(net, wants.iter().map(|want| want.size).sum::<u64>());
    assert_eq!(ours.counts().from_net(), net);
}

#[test]
fn a_large_file_and_again_with_a_mebibyte_inserted() {
    let (ours, theirs) = (Side::new(), Side::new());
    let mut bytes = noise(1, 64 * MIB);
    theirs.write("big", &bytes);
    let want = theirs.scan().remove(0);
    let road = Road::to(&theirs);
    let ok = run(ours.fetch(&road, vec![want.clone()]))
        .remove(0)
        .result
        .unwrap();
    assert_eq!(ours.staged_hash(&want), want.hash);
    assert_eq!(ok.chunks, theirs.list_known(&want.hash).unwrap());
    assert!(
        ok.from_net < 64 * MIB as u64 + 16_384 && ok.from_local == 0,
        "{ok:?}"
    );
    ours.place(&want, "big");

    bytes.splice(20_000_000..20_000_000, noise(2, MIB));
    theirs.write("big", &bytes);
    let want = theirs.scan().remove(0);
    let ok = run(ours.fetch(&road, vec![want.clone()]))
        .remove(0)
        .result
        .unwrap();
    assert_eq!(ours.staged_hash(&want), want.hash);
    assert!(ok.from_net < 3_000_000, "{ok:?}");
    assert!(ok.from_local > 61 * MIB as u64, "{ok:?}");
}

#[test]
fn what_is_at_hand_is_not_asked_for() {
    let (ours, theirs) = (Side::new(), Side::new());
    for (name, bytes) in [
        ("small", noise(1, 5000)),
        ("big", noise(2, 5 * MIB)),
        ("empty", vec![]),
    ] {
        ours.write(&format!("ours-{name}"), &bytes);
        theirs.write(name, &bytes);
    }
    ours.scan();
    let nobody = Road::closed();
    for fetched in run(ours.fetch(&nobody, theirs.scan())) {
        let ok = fetched.result.unwrap();
        assert_eq!((ok.from_net, ok.from_local), (0, fetched.want.size));
        assert_eq!(ours.staged_hash(&fetched.want), fetched.want.hash);
    }
}

#[test]
fn own_files_that_changed_since_are_not_trusted() {
    let (ours, theirs) = (Side::new(), Side::new());
    let bytes = noise(1, 8 * MIB);
    theirs.write("big", &bytes);
    theirs.write("small", &noise(2, 3000));
    let mut old = bytes.clone();
    old.splice(3 * MIB..3 * MIB, noise(3, 10));
    ours.write("big", &old);
    ours.write("small", &noise(2, 3000));
    ours.scan();
    // Other bytes in the first half, and a database that has not noticed.
    old[..4 * MIB].reverse();
    ours.write("big", &old);
    ours.write("small", &noise(4, 3000));
    ours.believe_the_stats();
    let wants = theirs.scan();
    for fetched in run(ours.fetch(&Road::to(&theirs), wants)) {
        let ok = fetched.result.unwrap();
        assert_eq!(ours.staged_hash(&fetched.want), fetched.want.hash);
        assert!(
            ok.from_net >= 3000 && fetched.want.size == 3000 || ok.from_local > 2 * MIB as u64,
            "{ok:?}"
        );
    }
}

#[test]
fn large_and_small_together_in_any_order() {
    let (ours, theirs) = (Side::new(), Side::new());
    for n in 0..60u64 {
        theirs.write(
            &format!("{n}"),
            &noise(
                n,
                [300, 2 * MIB, 70_000, 3 * MIB + 5, MIB, MIB + 1][n as usize % 6],
            ),
        );
    }
    let wants = theirs.scan();
    for fetched in run(ours.fetch(&Road::to(&theirs), wants)) {
        fetched.result.unwrap();
        assert_eq!(ours.staged_hash(&fetched.want), fetched.want.hash);
    }
}

#[test]
fn a_file_changed_while_it_is_served_is_superseded() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 16 * MIB));
    theirs.write("small", &noise(2, 5000));
    theirs.write("still", &noise(3, 5000));
    let wants = theirs.scan();
    theirs.write("small", &noise(4, 5000));
    // After some reads of the large file somebody saves into it.
    theirs.after_reads("big", 8, |path| {
        use std::os::unix::fs::FileExt as _;
        std::fs::OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .write_at(b"saved", 0)
            .unwrap();
    });
    for fetched in run(ours.fetch(&Road::to(&theirs), wants)) {
        match fetched.result {
            Ok(ok) => assert!(
                ok.meta.size == 5000 && ours.staged_hash(&fetched.want) == fetched.want.hash
            ),
            Err(error) => {
                assert!(matches!(error, FetchError::Superseded), "{error:?}");
                assert!(!ours.is_staged(&fetched.want));
            }
        }
    }
    let mut told = theirs.superseded();
    // Once for each range that was under way.
    told.sort();
    told.dedup();
    assert_eq!(
        told,
        ["big", "small"].map(|path| RelPath::parse(path).unwrap())
    );
}

#[test]
fn another_copy_goes_on_where_one_was_changed() {
    let (ours, theirs) = (Side::new(), Side::new());
    let bytes = noise(1, 16 * MIB);
    theirs.write("a", &bytes);
    theirs.write("b", &bytes);
    let want = theirs.scan().remove(0);
    theirs.after_reads("a", 8, |path| std::fs::remove_file(path).unwrap());
    theirs.after_reads("a", 9, |path| std::fs::write(path, b"other").unwrap());
    let fetched = run(ours.fetch(&Road::to(&theirs), vec![want.clone()])).remove(0);
    fetched.result.unwrap();
    assert_eq!(ours.staged_hash(&want), want.hash);
}

#[test]
fn cut_in_the_middle_only_the_rest_comes_the_next_time() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 40 * MIB));
    let wants = theirs.scan();
    let cut = Road::to(&theirs).cut_after(24 * MIB, Cut::End);
    let fetched = run(ours.fetch(&cut, wants.clone())).remove(0);
    assert!(
        matches!(fetched.result, Err(FetchError::Disconnected)),
        "{fetched:?}"
    );
    assert!(!ours.is_staged(&wants[0]) && ours.part_size(&wants[0]) > 21 * MIB as u64);

    // A shorter try leaves the longer one's bytes alone.
    let cut = Road::to(&theirs).cut_after(MIB, Cut::End);
    run(ours.fetch(&cut, wants.clone()))
        .remove(0)
        .result
        .unwrap_err();
    assert!(ours.part_size(&wants[0]) > 21 * MIB as u64);

    let ok = run(ours.fetch(&Road::to(&theirs), wants.clone()))
        .remove(0)
        .result
        .unwrap();
    assert!(
        ok.from_net < 20 * MIB as u64 && ok.from_local > 20 * MIB as u64,
        "{ok:?}"
    );
    assert_eq!(ours.staged_hash(&wants[0]), wants[0].hash);
    assert_eq!(
        ours.staged_names().len(),
        1,
        "nothing else is left: {:?}",
        ours.staged_names()
    );
}

#[test]
fn a_stream_that_stops_times_out() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 8 * MIB));
    theirs.write("small", &noise(2, 100));
    let stalls = Road::to(&theirs).cut_after(MIB, Cut::Silence);
    let wants = theirs.scan();
    for fetched in run(ours
        .impatient(Duration::from_millis(200))
        .fetch(&stalls, wants))
    {
        let late = matches!(fetched.result, Err(FetchError::TimedOut));
        assert!(late || fetched.want.size == 100, "{fetched:?}");
    }
}

/// A space that is paused, or a device that is blocked, while a part of a large content is under way.
#[test]
fn denied_within_a_part_ends_it() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 16 * MIB));
    let wants = theirs.scan();
    theirs.deny_after("big", 2);
    let fetched = run(ours.fetch(&Road::to(&theirs), wants)).remove(0);
    assert!(
        matches!(fetched.result, Err(FetchError::Absent)),
        "{fetched:?}"
    );
    let came = ours.counts().from_net();
    assert!(came < 3 * MIB as u64, "{came} bytes came");
}

/// Security test 27.
#[test]
fn denied_looks_like_absent() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("a", &noise(1, 5000));
    theirs.write("b", &noise(2, 3 * MIB));
    let wants = theirs.scan();
    let there = theirs.answers_to(&wants);
    theirs.forget();
    let absent = theirs.answers_to(&wants);
    theirs.scan();
    theirs.deny();
    let denied = theirs.answers_to(&wants);
    assert!(absent == denied && there != denied);
    for fetched in run(ours.fetch(&Road::to(&theirs), wants)) {
        assert!(
            matches!(fetched.result, Err(FetchError::Absent)),
            "{fetched:?}"
        );
    }
    assert_eq!(ours.staged_names(), Vec::<String>::new());
}

#[test]
fn nobody_to_ask_and_a_closed_door() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("a", &noise(1, 5000));
    let wants = theirs.scan();
    let error = |road: &Road| {
        run(ours.fetch(road, wants.clone()))
            .remove(0)
            .result
            .unwrap_err()
    };
    assert!(matches!(error(&Road::closed()), FetchError::Disconnected));
    assert!(matches!(error(&Road::refusing()), FetchError::Denied));
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 8 * MIB));
    theirs.write("small", &noise(2, 5000));
    let wants = theirs.scan();
    ours.room_for(3 * MIB as u64);
    let fetched = run(ours.fetch(&Road::to(&theirs), wants.clone()));
    let big = fetched
        .iter()
        .find(|fetched| fetched.want.size > MIB as u64)
        .unwrap();
    assert!(matches!(big.result, Err(FetchError::NoSpace)), "{big:?}");
    assert_eq!(
        (ours.is_staged(&big.want), ours.part_size(&big.want)),
        (false, 0)
    );
    // A whole copy of an own file meets the same.
    ours.write("mine", &noise(1, 8 * MIB));
    ours.scan();
    ours.room_for(MIB as u64);
    let fetched = run(ours.fetch(&Road::closed(), vec![big.want.clone()])).remove(0);
    assert!(
        matches!(fetched.result, Err(FetchError::NoSpace)),
        "{fetched:?}"
    );
    assert!(!ours.is_staged(&big.want));
}

#[test]
fn what_there_is_no_room_for_is_not_asked_for() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 8 * MIB));
    theirs.write("little", &noise(2, 5000));
    theirs.write("small", &noise(3, 50_000));
    let wants = theirs.scan();
    ours.says_room_for(40_000);
    let fetched = run(ours.fetch(&Road::to(&theirs), wants));
    for one in &fetched {
        match &one.result {
            Ok(ok) => assert_eq!((one.want.size, ok.from_net), (5000, 5000)),
            Err(error) => assert!(matches!(error, FetchError::NoSpace), "{one:?}"),
        }
    }
    assert_eq!(fetched.iter().filter(|f| f.result.is_ok()).count(), 1);
    // The list of the chunks of the big one came.
    assert!(ours.counts().from_net() < 20_000);
}

/// It is there: who asks is told to come again, and not that it is gone.
#[test]
fn what_may_not_be_read_is_not_absent() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("a", &noise(1, 5000));
    let wants = theirs.scan();
    theirs.close("a");
    let fetched = run(ours.fetch(&Road::to(&theirs), wants)).remove(0);
    assert!(
        matches!(fetched.result, Err(FetchError::Busy)),
        "{fetched:?}"
    );
}

#[test]
fn streams_of_one_device_are_counted() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("a", &noise(1, 5000));
    let wants = theirs.scan();
    let road = Road::to(&theirs).streams(1);
    run(async {
        let first = road.hold().await;
        let refused = ours.fetch(&road, wants.clone()).await.remove(0);
        assert!(
            matches!(refused.result, Err(FetchError::Disconnected)),
            "{refused:?}"
        );
        drop(first);
        road.until_free().await;
        ours.fetch(&road, wants.clone())
            .await
            .remove(0)
            .result
            .unwrap();
    });
}

#[test]
fn a_range_beyond_the_file_is_absent() {
    use ownmesh_node::content::wire::Part;
    let theirs = Side::new();
    theirs.write("a", &noise(1, 2 * MIB));
    let want = theirs.scan().remove(0);
    for (offset, len) in [(2 * MIB as u64, 1), (2 * MIB as u64 - 1, 2), (1 << 62, 1)] {
        let ask = Ask::Chunks {
            space: kit::SPACE,
            hash: want.hash,
            parts: vec![Part { n: 9, offset, len }],
        };
        let mut bytes = Vec::new();
        answer::answer(&ask, &kit::PEER, &*theirs.source(), &mut |more| {
            bytes.extend_from_slice(more);
            true
        })
        .unwrap();
        assert_eq!(bytes, Head::bare(9, Status::Absent).to_bytes());
    }
}

#[test]
fn what_a_try_for_another_content_left_does_no_harm() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 12 * MIB));
    let old = theirs.scan();
    run(ours.fetch(&Road::to(&theirs).cut_after(8 * MIB, Cut::End), old))
        .remove(0)
        .result
        .unwrap_err();
    theirs.write("big", &noise(2, 12 * MIB));
    let wants = theirs.scan();
    let ok = run(ours.fetch(&Road::to(&theirs), wants.clone()))
        .remove(0)
        .result
        .unwrap();
    assert_eq!(
        (ok.from_local, ours.staged_hash(&wants[0])),
        (0, wants[0].hash)
    );
    assert_eq!(ours.staged_names(), ["big"]);
}

#[test]
fn a_device_that_cannot_say_is_busy() {
    let (ours, theirs) = (Side::new(), Side::new());
    theirs.write("big", &noise(1, 2 * MIB));
    theirs.write("small", &noise(2, 5000));
    let wants = theirs.scan();
    theirs.break_database();
    for fetched in run(ours.fetch(&Road::to(&theirs), wants)) {
        assert!(
            matches!(fetched.result, Err(FetchError::Busy)),
            "{fetched:?}"
        );
    }
}

#[test]
fn each_result_is_told_as_it_comes() {
    let (ours, theirs) = (Side::new(), Side::new());
    (0..50u64).for_each(|n| theirs.write(&format!("{n}"), &noise(n, 100)));
    let wants = theirs.scan();
    run(ours.fetch(&Road::to(&theirs), wants.clone()));
    assert_eq!(ours.told(), wants.len());
}
