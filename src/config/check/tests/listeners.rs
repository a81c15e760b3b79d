use super::{LEAST, fault_after, faults, good, message, with};

#[test]
fn listeners_keep_apart() {
    let taken = |found: &str, other: &str| {
        format!("{found} is already taken by {other}; give each listener an address of its own")
    };
    for (more, key, found, other) in [
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "admin.listen", "127.0.0.1:8080", "server.listen"),
        ("[server]\nlisten = [\"0.0.0.0:9901\"]", "server.listen[0]", "0.0.0.0:9901", "admin.listen"),
        ("[server]\nlisten = [\"[::]:9902\"]", "server.listen[0]", "[::]:9902", "health.listen"),
        (
            "[server]\nlisten = [\"1.1.1.1:1\", \"0.0.0.0:1\"]",
            "server.listen[1]",
            "0.0.0.0:1",
            "server.listen[0]",
        ),
    ] {
        assert_eq!(fault_after(more), format!("{key}: {}", taken(found, other)));
    }
    assert_eq!(
        fault_after("[health]\nlisten = \"localhost:1\""),
        "health.listen: \"localhost:1\" is not an address and a port; write for example \"127.0.0.1:8080\" or \
         \"[::1]:8080\""
    );
    good(&format!("{LEAST}[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\""));
    good(&format!("{LEAST}[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.2:1\", \"[::1]:1\"]"));
}

#[test]
fn a_network_is_written_without_host_bits() {
    let network = |v: &str| fault_after(&format!("[server]\ntrusted_proxies = [\"{v}\"]"));
    for v in ["10.0.0.0/33", "proxy", "", "10.0.0.0/", "fd00::/129"] {
        assert_eq!(
            network(v),
            format!(
                "server.trusted_proxies[0]: {v:?} is not a network; write for example \"10.0.0.0/8\", \"192.0.2.1\" \
                 or \"fd00::/8\""
            )
        );
    }
    assert_eq!(
        network("10.0.0.1/8"),
        "server.trusted_proxies[0]: \"10.0.0.1/8\" has bits set beyond its prefix; write \"10.0.0.0/8\""
    );
    assert_eq!(
        network("10.0.0.0/8\", \"10.0.0.0/8"),
        "server.trusted_proxies[1]: \"10.0.0.0/8\" stands here twice; write it once"
    );
}

#[test]
fn an_origin_is_a_valid_key_name() {
    let origin = |v: &str| message(&faults(&with("origin", &format!("origin = '{v}'"))));
    let like = "like \"portcullis.example.com/gate-1\"";
    for (v, expected) in [
        ("", format!("is empty; write a name {like}")),
        ("https://a/b", format!("\"https://a/b\" has a scheme; write it without, {like}")),
        ("a+b", format!("\"a+b\" has '+' in it; write visible ASCII without '+', {like}")),
        (
            "a\u{a0}b",
            format!("\"a\\u{{a0}}b\" has '\\u{{a0}}' in it; write visible ASCII without '+', {like}"),
        ),
        ("a b", format!("\"a b\" has ' ' in it; write visible ASCII without '+', {like}")),
        ("é", format!("\"é\" has 'é' in it; write visible ASCII without '+', {like}")),
        ("/a", format!("\"/a\" does not begin with a host; write a host and perhaps a path, {like}")),
        ("a_b!/x", format!("\"a_b!/x\" does not begin with a host; write a host and perhaps a path, {like}")),
        ("a//b", format!("\"a//b\" has an empty, `.` or `..` part; write it without, {like}")),
        ("a/", format!("\"a/\" has an empty, `.` or `..` part; write it without, {like}")),
        ("a/../b", format!("\"a/../b\" has an empty, `.` or `..` part; write it without, {like}")),
    ] {
        assert_eq!(origin(v), format!("log.origin: {expected}"));
    }
    assert_eq!(origin(&"a/".repeat(128)), "log.origin: is 256 bytes long; write at most 255");
}

#[test]
fn the_log_and_its_marks_lie_apart() {
    let within = "write a directory outside it, so that a log lost or replaced can be told";
    for v in ["log", "log/state", "x/../log/y", "log/"] {
        assert_eq!(
            message(&faults(&with("state_dir", &format!("state_dir = {v:?}")))),
            format!("log.state_dir: lies within `log.dir`; {within}")
        );
    }
    assert_eq!(
        message(&faults(&with("dir", "dir = \"state/log\""))),
        format!("log.dir: lies within `log.state_dir`; {within}")
    );
    good(&with("state_dir", "state_dir = \"log-state\""));
}
