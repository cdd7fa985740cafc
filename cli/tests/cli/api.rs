//! The API as HTTP, without the command line between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::world::{Device, PATIENCE, World};

/// Sends one request, closing the connection after it.
fn ask(device: &Device<'_>, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Value) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let answer = device.http(&[head.as_bytes(), body].concat());
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Security tests 59 and 80.
#[test]
fn errors_are_objects_with_the_status_of_their_kind() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let json = "Content-Type: application/json\r\n";
    for (method, path, headers, body, status, kind) in [
        ("GET", "/v1/nothing", "", &b""[..], 404, "not_found"),
        ("PUT", "/v1/status", "", b"", 405, "method"),
        ("POST", "/v1/spaces", "", b"{}", 415, "media_type"),
        ("POST", "/v1/spaces", json, b"{", 400, "usage"),
        (
            "POST",
            "/v1/spaces",
            json,
            b"{\"path\":\"/\",\"extra\":1}",
            400,
            "usage",
        ),
        (
            "POST",
            "/v1/wait",
            json,
            &vec![b' '; (1 << 20) + 1],
            413,
            "too_large",
        ),
        ("POST", "/v1/spaces/nowhere/scan", "", b"", 404, "not_found"),
        ("GET", "/v1/why", "", b"", 400, "usage"),
        ("POST", "/v1/limits", json, b"{\"up\":1}", 400, "usage"),
        (
            "POST",
            "/v1/limits",
            json,
            b"{\"up\":100000,\"schedule\":[\"8-9\"]}",
            400,
            "usage",
        ),
        (
            "POST",
            "/v1/pause",
            json,
            b"{\"space\":\"nowhere\"}",
            404,
            "not_found",
        ),
    ] {
        let (got, value) = ask(&laptop, method, path, headers, body);
        assert_eq!(
            (got, value["error"]["kind"].as_str(), value["v"].as_u64()),
            (status, Some(kind), Some(1)),
            "{method} {path}: {value}"
        );
    }
}

#[test]
fn the_everyday_commands_are_there_too() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let json = "Content-Type: application/json\r\n";
    let get = |path: &str| ask(&laptop, "GET", path, "", b"");
    let post = |path: &str, body: &str| ask(&laptop, "POST", path, json, body.as_bytes());
    let (status, doctor) = get("/v1/doctor");
    assert_eq!((status, &doctor["ok"]), (200, &true.into()), "{doctor:#}");
    let (_, why) = get("/v1/why?path=%2Fetc%2Fhosts");
    assert_eq!(why["state"], "outside");
    let (_, limits) = post(
        "/v1/limits",
        r#"{"down":100000,"schedule":["22:00-06:00"]}"#,
    );
    assert_eq!(limits["schedule"][0], "22:00-06:00", "{limits}");
    assert_eq!(get("/v1/limits").1["down"], 100_000);
    assert_eq!(post("/v1/pause", "{}").1["spaces"], serde_json::json!([]));
    assert_eq!(post("/v1/resume", "{}").0, 200);
    let renamed = r#"{"device":"laptop","name":"study"}"#;
    assert_eq!(post("/v1/devices/rename", renamed).0, 200);
    let own = r#"{"device":"study","blocked":true}"#;
    assert_eq!(post("/v1/devices/block", own).0, 409);
}

#[test]
fn one_connection_serves_many_requests() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let mut stream = UnixStream::connect(laptop.home.join("api.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        while !answer.ends_with(b"}\n") {
            let read = stream.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[test]
fn the_description_is_served() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let (status, value) = ask(&laptop, "GET", "/v1/openapi.json", "", b"");
    assert_eq!(status, 200);
    assert!(value["paths"]["/v1/spaces/{NAME}/scan"]["post"].is_object());
}

#[test]
fn a_stream_ends_when_the_node_does() {
    let world = World::new();
    let laptop = world.device("laptop").init();
    let mut stream = UnixStream::connect(laptop.home.join("api.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut heard = Vec::new();
    let mut chunk = [0; 1024];
    while !String::from_utf8_lossy(&heard).contains("listening") {
        let read = stream.read(&mut chunk).unwrap();
        assert_ne!(read, 0);
        heard.extend_from_slice(&chunk[..read]);
    }
    laptop.json(&["down"]);
    stream.read_to_end(&mut heard).unwrap();
    assert!(
        String::from_utf8_lossy(&heard).ends_with("0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&heard)
    );
}
