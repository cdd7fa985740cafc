//! Clocks that are wrong.

use super::*;

/// Security test 66: what a statement says of its time decides nothing. The same statements, dated now, ten years off, at the beginning and at
/// the end of all time, are taken or refused alike and make the same mesh.
#[test]
fn wrong_clocks_decide_nothing() {
    const NOW: u64 = 1_763_000_000;
    const DECADE: u64 = 10 * 365 * 86_400;
    let grow = |times: [u64; 4]| {
        let mut world = World::new();
        let (mesh, phone) = (world.mesh(), keys(&mut world.rng));
        let by = By::Device(&world.laptop);
        let add =
            |by, at| device(by, &mesh, "phone", "x", &phone.card(), JoinPath::Code, at).unwrap();
        let said = [
            add(by, times[0]),
            // The one that may not, at another time.
            add(By::Device(&world.nas), times[1]),
            space(&world.nas, &mesh, DOCS, "docs", SpaceKind::Folder, times[2]).unwrap(),
            delegation(by, &mesh, phone.device_id(), true, times[3]).unwrap(),
        ];
        let ends = said.map(|statement| world.insert(&statement).unwrap());
        let view = world.set.view();
        let entry = &view.devices[&phone.device_id()];
        let mesh = (
            view.devices.len(),
            entry.name.clone(),
            entry.may_add,
            entry.added_by,
            view.spaces[&DOCS].name.clone(),
        );
        (ends, mesh)
    };
    let right = grow([NOW; 4]);
    assert_eq!(right.0[1], Inserted::Pending);
    let off = [0, NOW - DECADE, NOW, NOW + DECADE, u64::MAX];
    for (n, first) in off.into_iter().enumerate() {
        let turned = std::array::from_fn(|at| off[(n + 2 * at) % off.len()]);
        assert_eq!(grow([first; 4]), right, "all at {first}");
        assert_eq!(grow(turned), right, "{turned:?}");
    }
}
