//! Sequences that lost data in a first design, one by one; `tests/src/stories.rs` tells them.

use ownmesh_tests::stories;

macro_rules! told {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            stories::$name();
        })*

        #[test]
        fn every_story_is_told() {
            let told = [$(stringify!($name)),*];
            assert_eq!(told.len(), stories::ALL.len());
        }
    };
}

told!(
    unseen_version,
    autosave_in_a_conflict,
    rotated_log,
    replaced_directory,
    made_again,
    safe_save,
    two_imports,
    rounded_times,
    torn_file,
    pruned_log,
    restored_backup,
    file_in_a_deleted_directory,
    save_that_slips_in,
    swapped_names,
    racy_write,
    bytes_put_twice,
    many_at_once,
    busy_log,
    joined_again_in_a_conflict,
    deleted_while_not_taking_part,
    names_of_copies_taken,
    deleted_directory_while_not_taking_part,
    log_runs_twice,
    link_made_again,
    file_kept_in_the_new_directory,
    power_lost_while_making_way,
    file_into_the_directory_of_its_name,
    file_in_place_of_its_directory,
    deleted_after_the_answer,
    deleted_in_two_goes,
    asked_beyond_a_kill,
    confirmed_is_done_with,
    directories_are_no_files,
    deleted_again,
    killed_when_the_new_folder_is_marked,
    in_the_way,
    full_for_long,
    joined_anew_while_away,
    left_while_away,
    left_while_waiting,
    written_while_waiting,
    waited_for_after_joining,
    scan_that_failed,
    giver_leaves,
    giver_is_stopped,
    long_history,
    given_by_two,
    not_watched,
    closed_directory,
    deleted_while_placed,
    renamed_while_placed,
    link_deleted_while_placed,
    dir_renamed_while_placed,
    copy_placed_and_killed,
    writable_for_a_moment,
    power_lost_while_healing,
    started_over_within_steps,
    paused_over_a_loss_of_power,
    paused_for_a_time,
    what_is_told,
    ignored_stays,
    gone_while_ignored,
    gone_with_the_rule,
    deleted_around_ignored,
    ignored_and_deleted_elsewhere,
    deleted_here_with_ignored,
    brake_and_ignored,
    merged_under_rules,
    mistaken_rules,
    moved_out_of_ignored,
    ignored_in_the_way,
    renamed_while_looked_at,
);

/// All sequences of a few steps in a tiny tree; `MESH_SHORT=1` tells every one of three steps.
#[test]
fn every_short_story_ends_well() {
    let whole = std::env::var_os("MESH_SHORT").is_some();
    let stride = |n: u64| if whole { 1 } else { n };
    for (steps, both, stride) in [
        (2, false, stride(5)),
        (3, false, stride(211)),
        (2, true, stride(7)),
        (3, true, if whole { 31 } else { 499 }),
    ] {
        let (told, wrong) = stories::short(steps, both, stride);
        println!("{told} stories of {steps} steps, both sides {both}");
        assert!(
            wrong.is_empty(),
            "{} of {told}: {}",
            wrong.len(),
            wrong[..wrong.len().min(5)].join("\n")
        );
    }
}
