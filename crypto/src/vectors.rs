//! Frozen values: a change here is a change of format, and every mesh that exists would break.

use crate::registry::{self, By, JoinPath, SpaceKind};
use crate::testing::{Counting, hex};
use crate::{
    ContentHash, DeviceKeys, DeviceSeed, EpochKey, Incarnation, ItemId, KeyId, Keyslot, KeyslotFor,
    Label, MasterKey, MeshId, MeshSecret, ObjectKind, Phrase, Registry, Secret, seal,
};

fn keys() -> DeviceKeys {
    DeviceKeys::from_seed(&DeviceSeed::from_bytes([1; 32]))
}

#[test]
fn device_keys() {
    let keys = keys();
    let public = keys.public();
    assert_eq!(
        hex(public.sign),
        "024d82e62ccffe31f612fe45e7588ec100b4c791cc86dc1b51d927727ba27d4a"
    );
    assert_eq!(
        hex(public.transport),
        "586824239e4f8a49a3143bd0563067ba708a1f51a45097d227d963a1d2ef5963"
    );
    assert_eq!(
        hex(public.noise),
        "e647b13ab616273d2d59e5106b233cded7b31cf5979ca78f8135857b9c1b083d"
    );
    assert_eq!(
        hex(public.seal),
        "0b9a8586c85c8ecc7ffbacce21bb94284b05f753d4b704e63bfa7c668b62f106"
    );
    assert_eq!(
        keys.device_id().to_string(),
        "f0b44e59878152889ad2384a106b234f"
    );
    assert_eq!(
        hex(keys.sign(Label::SIGN_BATCH, b"batch")),
        "ce051a57d52f88992cadbe69d54eff6acaa9e124b80952a73c8b898e0c84f7cf8984cf0a857cbff10cc31636b60cfd8cdca02c6cbec5d0c8e6fb27549dbfa606"
    );
}

#[test]
fn names() {
    let mesh = MeshSecret::from_bytes([2; 32]);
    let space_id = mesh.space_id("docs");
    let space = mesh.space_secret(&space_id);
    let life = Incarnation::from_bytes([3; 8]);
    assert_eq!(space_id.to_string(), "f6d157523d02744a0544174cf8b4b3be");
    assert_eq!(
        hex(space.expose()),
        "0ab594172a38e45e4db1dd4b550409916f90707104498baac70b3c6f4246cb23"
    );
    assert_eq!(
        hex(mesh.discovery_tag(b"nonce")),
        "51914bac3ae5cc4b97c580d395e82791"
    );
    assert_eq!(
        space.item_id(&ItemId::ROOT, "a.txt").to_string(),
        "2be32fc814d2d12224338efbb9d5ac13"
    );
    assert_eq!(
        space.content_hash(b"hello").to_string(),
        "3a31af350f792c6073382d3639a212ef91a86fd20fb8d0332dabe93b34ecf45e"
    );
    assert_eq!(
        hex(space.cut_seed()),
        "6eeb10eae1537068b73c2b4877dfbb731e43a2635f6ad767ea54d5a5ff24e041"
    );
    assert_eq!(
        hex(space.fingerprint_key()),
        "eb2c155900196106f5224ebf9bbc844b1976ab4901e7ab9978c505fbec909ca0"
    );
    assert_eq!(
        space.writer_tag(&keys().device_id(), &life).to_string(),
        "b34e5b72e99d7a5bd1586ae18ebc8de6"
    );
    assert_eq!(
        space
            .conflict_item(&ItemId::ROOT, &ContentHash::from_bytes([4; 32]), 5, &life)
            .to_string(),
        "65d182f188e07222082c6f76cb1caf5b"
    );
}

#[test]
fn sealed_object() {
    let key = EpochKey::from_parts(KeyId::from_bytes([6; 16]), [7; 32]);
    assert_eq!(
        hex(key.commitment()),
        "2728ac3f4eb674c6b67884e3d0db04039a0ab3a768e1ac0a2361fd244c037933"
    );
    assert_eq!(
        hex(seal(
            &key,
            ObjectKind::Batch,
            b"aad",
            b"hello",
            &mut Counting(0)
        )),
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fdf00b44d861229aa0c90bf1685b7d0ea3b5ca5157e6e16dd311746be7ee65325e0f3394404334dd9939d1bcc47eee71baee349712b"
    );
}

#[test]
fn phrase_keyslot() {
    let master = MasterKey(Secret::new([8; 32]));
    let of = KeyslotFor {
        mesh_id: MeshId::from_bytes([9; 16]),
        mesh_salt: [10; 16],
        generation: 0,
    };
    let phrase = Phrase::generate(&mut Counting(0));
    assert_eq!(
        hex(Keyslot::seal_phrase(&master, of, &phrase, &mut Counting(0)).to_bytes()),
        "4d53484b0002000102030405060708090a0b0c0d0e0f090909090909090909090909090909090a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a00000000000000000000000000000000101112131415161718191a1b1c1d1e1ffda0c6b4a7e92eb9ea80e047c3e860f34d307244bf7bc41376433a421c2af8f5202122232425262728292a2b2c2d2e2f303132333435363722d338e24e70d1620a7cd891b998bbeecc75eab5545bd45922e2721cabc5e5090141f3d074c28195e4753abd3cf86c2f"
    );
}

/// The key schedule of a password slot, one Argon2 run.
#[test]
fn password_keyslot() {
    let master = MasterKey(Secret::new([8; 32]));
    let of = KeyslotFor {
        mesh_id: MeshId::from_bytes([9; 16]),
        mesh_salt: [10; 16],
        generation: 0,
    };
    let slot =
        Keyslot::seal_password(&master, of, "correct horse battery", &mut Counting(0)).unwrap();
    assert_eq!(
        hex(&slot.to_bytes()[86..]),
        "aedc6f12ced2e0172c385ddbd9a71bb94746538e1a6eb245ea0dc3fdb85229b2202122232425262728292a2b2c2d2e2f3031323334353637ff9662c01a5da4aa71239e1770ba22b3f08178c2a46ae591b5376675935bf0bf81c2b316959bad11d9f89056c49acc77"
    );
}

#[test]
fn statements() {
    let salt = [11; 16];
    let root = MasterKey(Secret::new([8; 32])).root(&salt, 0);
    let keys = keys();
    let genesis = registry::genesis(&root, salt, "home", 1_700_000_000).unwrap();
    let mesh = genesis.mesh_id();
    assert_eq!(mesh.to_string(), "2c91e8b1c3abee07e64663e1df96acc8");
    assert_eq!(
        hex(genesis.bytes()),
        "0001010000000000000000000000000000000000000000000000000000000000000000600085500b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b582079c18fc7427baf2dda6d6579f2742bfcdc970b77732c0e0c16038cbfcd7e0d1f5820ab9c8f346633f780958f8a7d5292111d3921208bbe099fa1a8e76b9ecd55305664686f6d651a6553f100fda366f048552b9ea7b95bc54e1bbbdc187584555dd48c25a1dfa35d67640c0b3db978546c696be14652bf87a40d28362c4d38a92e61a30f45843ff70c4c3806"
    );
    let mut set = Registry::new(genesis.bytes()).unwrap();
    let device = registry::device(
        By::Root(&root),
        &mesh,
        "laptop",
        "linux",
        &keys.card(),
        JoinPath::First,
        1_700_000_000,
    )
    .unwrap();
    assert_eq!(
        hex(device.bytes()),
        "0001032c91e8b1c3abee07e64663e1df96acc800000000000000000000000000000000f1008650f0b44e59878152889ad2384a106b234f666c6170746f70656c696e757882845820024d82e62ccffe31f612fe45e7588ec100b4c791cc86dc1b51d927727ba27d4a5820586824239e4f8a49a3143bd0563067ba708a1f51a45097d227d963a1d2ef59635820e647b13ab616273d2d59e5106b233cded7b31cf5979ca78f8135857b9c1b083d58200b9a8586c85c8ecc7ffbacce21bb94284b05f753d4b704e63bfa7c668b62f10658407ba48cf4051cbfa81fede73849f591008bf02e29e7e46a7f9763f39c7c84dc1cedc8793586753d8232ba639093581c0458e3d2cc9d123f285db495c1c1411f04011a6553f1000877a405d224b76e15cfe0fc77032d9a54525b168a5704c959ed6f559cb014cbdce93b449cd2bcb988b02c92c74eb72ecdba42997379aa01658421cec4eef409"
    );
    set.insert(device.bytes()).unwrap();
    let delegation = registry::delegation(
        By::Root(&root),
        &mesh,
        keys.device_id(),
        true,
        1_700_000_000,
    )
    .unwrap();
    assert_eq!(
        delegation.hash().to_string(),
        "d683d380bc77e3ae6ddda99f6e73e9f7b31dd07d0f4396a804b95d0c7fb33f9b"
    );
    set.insert(delegation.bytes()).unwrap();
    let space_id = MeshSecret::from_bytes([2; 32]).space_id("docs");
    let space = registry::space(
        &keys,
        &mesh,
        space_id,
        "docs",
        SpaceKind::Folder,
        1_700_000_000,
    )
    .unwrap();
    assert_eq!(
        space.hash().to_string(),
        "e7a63adff0b26b8400a2096639efff459ba1940399dca18a343b4d6d19c918a4"
    );
    set.insert(space.bytes()).unwrap();
    let key = EpochKey::from_parts(KeyId::from_bytes([6; 16]), [7; 32]);
    let epoch = registry::epoch(&keys, &mesh, space_id, 0, &key, 1_700_000_000).unwrap();
    assert_eq!(
        epoch.hash().to_string(),
        "b6847d1deb586f03b86e8cea47686c715ee03b7855cd89a761f0251caf78fe45"
    );
    set.insert(epoch.bytes()).unwrap();
    let grants = registry::grants(
        &keys,
        set.view(),
        &space_id,
        &key,
        &[keys.device_id()],
        1_700_000_000,
        &mut Counting(0),
    )
    .unwrap();
    assert_eq!(
        grants.hash().to_string(),
        "5de68ae6223217c02797ed7a4479c35ec392ebd5a3412a0c246394a5e916ab43"
    );
    set.insert(grants.bytes()).unwrap();
    assert_eq!(
        hex(set.digest()),
        "a5a5879a631d03ad66a13d5013d9e0e86a0943c5ac3626652858b94999a206df"
    );
    assert_eq!(
        registry::open_grant(
            &keys,
            &space_id,
            set.view().current_epoch(&space_id).unwrap()
        ),
        Ok(key)
    );
}

/// The library's messages, from known randomness: another version that makes others could not pair with this one.
#[test]
fn pairing_by_code() {
    use crate::pairing::frozen;
    let [question, answer, proof, key] = frozen::code_exchange("012-345-678");
    assert_eq!((question.len(), answer.len(), proof.len()), (96, 320, 64));
    let hash = |bytes: &[u8]| hex(crate::hash(Label::PAIR_CODE, &[bytes]));
    assert_eq!(
        hash(&question),
        "dd546975ad0036809b8d5d743cf44accd8cdb384b4b9ad408708b98f023687b7"
    );
    assert_eq!(
        hash(&answer),
        "c29401ff27f20c8f135c7691fb599027a5bffc925db93694f2d03669ccf87c11"
    );
    assert_eq!(
        hash(&proof),
        "e565751416d3c7f363f0d7cb72bd3761ae29ee40e88510780a13669a02be4862"
    );
    assert_eq!(
        hash(&key),
        "13799d5456db2330a181a838765b68f7d5e8aba80c49e16982156f0232dee9bc"
    );
    assert_eq!(
        hex(frozen::psk_of_code(&[1; 64], b"P1 C1 C2 C3").expose()),
        "77576e147e21c73d70db455945ff897bf8557e779a33ac973fdcda1e2514d1d0"
    );
    assert_eq!(
        hex(frozen::hello_of_code(999, [6; 32])),
        "000102e70300000000000000000000000000000606060606060606060606060606060606060606060606060606060606060606"
    );
    assert_eq!(
        hex(&frozen::prologue(2, &[6; 32], &[7; 32], b"P1")[..24]),
        "6d6573682f76302f706169722f70726f6c6f677565000206"
    );
}

/// What both ends of a pairing compute outside of the Noise library.
#[test]
fn pairing() {
    use crate::pairing::frozen;
    assert_eq!(
        hex(frozen::psk(&[1; 32], &[2; 16]).expose()),
        "f3b1c8a6c4ec3a779f1045066d80148e017fc6cbff44fc79cdbb42bb8d90d4e7"
    );
    assert_eq!(
        hex(frozen::commit(&[3; 32], &[4; 32])),
        "121641d2b75c11beb8501af9c6cfb4d6cff46f7702adbb89eed1311149a4db18"
    );
    assert_eq!(
        frozen::words(&[3; 32], &[5; 32], &[4; 32]).join("-"),
        "muffin-blade-salad"
    );
    assert_eq!(
        hex(frozen::prologue(1, &[6; 32], &[7; 32], b"P1")),
        "6d6573682f76302f706169722f70726f6c6f677565000106060606060606060606060606060606060606060606060606060606060606060707070707070707070707070707070707070707070707070707070707070707fbeae7c18667b6987518f3ae61ed8b19038e5961e8e7368597428eff76e4842a"
    );
}
