//! Sockets that systemd passes: they outlive the gate, so that no connection is refused while it restarts.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::Successor;
use crate::support::gate::BINARY;
use crate::support::{Act, DEADLINE, Gate, Setup, Site, Upstream, Wire, poll, until};

/// The manager's side: sockets that it keeps open.
struct Manager {
    sockets: [TcpListener; 3],
    names: &'static str,
}

impl Manager {
    fn new(names: &'static str) -> Self {
        Self { sockets: std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap()), names }
    }

    /// Starts a gate as `sd_listen_fds(3)` has it: sockets from 3 on, and the process's own number in the environment.
    fn spawn(&self, site: &Site, notify: Option<&std::path::Path>) -> Child {
        let passed: Vec<Stdio> =
            self.sockets.iter().map(|socket| OwnedFd::from(socket.try_clone().unwrap()).into()).collect();
        let [first, second, third]: [Stdio; 3] = passed.try_into().ok().unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(r#"exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>"$SAID"; LISTEN_PID=$$ exec "$@""#)
            .args(["sh", BINARY, "serve", "--config"])
            .arg(site.config())
            .arg("--ready-file")
            .arg(site.path("ready.json"))
            .env("SAID", site.path("stderr"))
            .env("LISTEN_FDS", "3")
            .env("LISTEN_FDNAMES", self.names);
        if let Some(socket) = notify {
            command.env("NOTIFY_SOCKET", socket);
        }
        command.stdin(first).stdout(second).stderr(third).spawn().unwrap()
    }

    fn start(&self, site: &Arc<Site>) -> Gate {
        let _ = std::fs::remove_file(site.path("ready.json"));
        let process = self.spawn(site, None);
        site.adopt(process, &site.path("ready.json"))
    }
}

#[test]
fn a_restart_under_socket_activation_refuses_no_connection() {
    let upstream = Upstream::start(Act::Answer);
    let mut site = Setup::new(&upstream).site();
    let manager = Manager::new("front:admin:health");
    let front = manager.sockets[0].local_addr().unwrap();
    let mut kept: Option<Wire> = None;
    for round in 0..3 {
        let gate = manager.start(&site);
        assert_eq!(gate.front, front);
        assert_eq!(gate.admin, manager.sockets[1].local_addr().unwrap());
        assert_eq!(gate.health().get("/readyz", None).status, 200);
        if let Some(mut wire) = kept.take() {
            let answer = wire.answer().expect("the call waited for the next gate");
            assert_eq!(answer.status, 200, "round {round}");
        }
        assert_eq!(gate.client().get("/public/a", None).status, 200);
        site = gate.stop();
        // Nobody runs; whoever calls now is not refused.
        let mut wire = Wire::open(front);
        wire.send("GET /public/waits HTTP/1.1\r\nHost: a\r\n\r\n");
        kept = Some(wire);
    }
    site.verify();
}

#[test]
fn sockets_are_known_by_their_address_where_they_have_no_name() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let manager = Manager::new("");
    let [health, front, admin] = &manager.sockets;
    for (table, socket) in [("admin", admin), ("health", health)] {
        let listen = format!("[{table}]\nlisten = \"{}\"", socket.local_addr().unwrap());
        site.edit_config(&format!("[{table}]\nlisten = \"127.0.0.1:0\""), &listen);
    }
    site.edit_config(
        "listen = [\"127.0.0.1:0\"]",
        &format!("listen = [\"{}\"]", front.local_addr().unwrap()),
    );
    let gate = manager.start(&site);
    assert_eq!(gate.front, front.local_addr().unwrap());
    assert_eq!(gate.client().get("/public/a", None).status, 200);
    assert_eq!(gate.health().get("/readyz", None).status, 200);
    gate.stop();
}

#[test]
fn a_socket_that_no_setting_wants_is_an_error() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let manager = Manager::new("front:health:metrics");
    let mut process = manager.spawn(&site, None);
    let status = poll("the gate to end", || process.try_wait().unwrap());
    assert_eq!(status.code(), Some(2));
    let said = site.said();
    let address = manager.sockets[2].local_addr().unwrap().to_string();
    assert!(said.contains("no setting wants") && said.contains(&address), "{said}");
}

#[test]
fn an_activated_gate_can_be_taken_over_and_the_manager_is_told() {
    let upstream = Upstream::start(Act::Answer);
    let site = Setup::new(&upstream).site();
    let manager = Manager::new("front:admin:health");
    let place = site.path("notify");
    let told = UnixDatagram::bind(&place).unwrap();
    told.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = || {
        let mut bytes = [0; 256];
        let read = told.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..read].to_vec()).unwrap()
    };
    let process = manager.spawn(&site, Some(&place));
    let gate = site.adopt(process, &site.path("ready.json"));
    assert_eq!(hear(), "READY=1");
    let new = Successor::spawn_with(&site, "new", &[("NOTIFY_SOCKET", &place)]).serves(&site);
    assert_eq!(hear(), format!("READY=1\nMAINPID={}", new.pid()));
    assert_eq!(new.front, gate.front);
    gate.wait();
    until("an answer", || new.client().get("/public/a", None).status == 200);
    new.stop().verify();
}
