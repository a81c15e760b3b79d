//! What the documents say is so: every command runs, every link leads somewhere, every list is whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends when something is not as it should be, in its helpers too"
)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// Documents whose commands a reader is meant to type, in a clone of the repository.
const TYPED: [&str; 2] = ["README.md", "CONTRIBUTING.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(file: &str) -> String {
    let path = root().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command, and the line that a document shows below it.
#[derive(Debug)]
struct Shown {
    command: String,
    answer: Option<String>,
}

/// The commands in the `console` blocks of a document, in order.
fn commands(document: &str) -> Vec<Shown> {
    let (mut shown, mut within) = (Vec::<Shown>::new(), false);
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(language) => within = language == "console",
            None if !within => {}
            None => match line.strip_prefix("$ ") {
                Some(command) => shown.push(Shown { command: command.to_owned(), answer: None }),
                None => shown.last_mut().expect("an answer follows a command").answer = Some(line.to_owned()),
            },
        }
    }
    shown
}

#[test]
fn the_quick_start_works_as_written() {
    let mut walk = Walk::new();
    for Shown { command, answer } in commands(&text("README.md")) {
        let said = walk.take(&command);
        if let Some(answer) = answer {
            assert_eq!(said.lines().next(), Some(answer.as_str()), "$ {command}");
        }
    }
    assert!(walk.gate.is_none(), "the quick start leaves the gate running");
}

/// A reader who types one command after another, in a directory that stands for the clone. Ports are others than those
/// written, so that tests run beside each other; the service behind the gate is one of our own.
struct Walk {
    dir: tempfile::TempDir,
    service: SocketAddr,
    gate: Option<Gate>,
}

struct Gate {
    process: Child,
    /// By the port that the documents write.
    addresses: Vec<(&'static str, SocketAddr)>,
}

impl Walk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let service = serve_files(dir.path().join("site"));
        Self { dir, service, gate: None }
    }

    fn take(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split(' ').collect();
        match *words.as_slice() {
            ["make", target] => {
                assert!(makes(target), "there is no target {target}");
                // What the target builds is what runs these tests.
                if target == "demo" { self.shell("portcullis demo") } else { String::new() }
            }
            ["export", path] => {
                assert_eq!(path, "PATH=\"$PWD/target/release:$PATH\"");
                assert!(text("Makefile").contains(
                    "install -D \"$(CARGO_TARGET_DIR)/release/portcullis\" target/release/portcullis"
                ));
                String::new()
            }
            ["python3", .., "&"] => {
                assert_eq!(command, "python3 -m http.server --bind 127.0.0.1 --directory site 9000 &");
                String::new()
            }
            ["portcullis", "serve", .., "&"] => {
                self.serve(command.trim_end_matches(" &"));
                String::new()
            }
            ["kill", "%1", "%2"] => {
                self.stop();
                String::new()
            }
            ["curl", ..] => self.curl(command),
            _ => self.shell(command),
        }
    }

    fn bash(&self, script: &str) -> Command {
        let mut path = OsString::from(Path::new(BINARY).parent().unwrap());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).current_dir(self.dir.path()).env("PATH", path).stdin(Stdio::null());
        bash
    }

    fn shell(&self, command: &str) -> String {
        let output = self.bash(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "$ {command}\n{said}{complaint}({})", output.status);
        said
    }

    fn serve(&mut self, command: &str) {
        let mut process = self
            .bash(&format!("exec {command}"))
            .env("PORTCULLIS__SERVER__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS__HEALTH__LISTEN", "127.0.0.1:0")
            .env("PORTCULLIS__SERVICE__0__UPSTREAMS", format!("http://{}", self.service))
            .env("PORTCULLIS__LOGGING__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (mut addresses, mut heard) = (Vec::new(), String::new());
        for line in lines.by_ref().map(Result::unwrap) {
            heard.push_str(&line);
            heard.push('\n');
            let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
            let said = |name: &str| event["fields"][name].as_str().map(str::to_owned);
            if said("message").as_deref() == Some("listening") {
                let port = match said("face").as_deref() {
                    Some("front") => "8080",
                    Some("admin") => "9901",
                    Some("health") => "9902",
                    other => panic!("a face of its own: {other:?}"),
                };
                addresses.push((port, said("address").unwrap().parse().unwrap()));
            }
            if addresses.len() == 3 {
                break;
            }
        }
        assert_eq!(addresses.len(), 3, "the gate did not get as far as listening:\n{heard}");
        // A pipe that nobody reads would hold the gate up.
        std::thread::spawn(move || lines.for_each(drop));
        self.gate = Some(Gate { process, addresses });
    }

    fn stop(&mut self) {
        let mut gate = self.gate.take().expect("a gate runs");
        let killed = Command::new("kill").arg(gate.process.id().to_string()).status().unwrap();
        assert!(killed.success());
        let ended = gate.process.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// Does what curl would, and answers as `curl -i` does.
    fn curl(&self, command: &str) -> String {
        let gate = self.gate.as_ref().expect("a gate runs");
        let words = self.shell(&format!("curl() {{ printf '%s\\0' \"$@\"; }}; {command}"));
        let (mut headers, mut url) = (String::new(), None);
        let mut words = words.split_terminator('\0');
        while let Some(word) = words.next() {
            match word {
                "-i" | "--path-as-is" | "--retry-connrefused" => {}
                "--retry" => drop(words.next()),
                "-H" => headers.push_str(&format!("{}\r\n", words.next().unwrap())),
                option if option.starts_with('-') => panic!("an option this does not know: {option}"),
                word => url = Some(word),
            }
        }
        let (authority, path) = url.unwrap().strip_prefix("http://").unwrap().split_once('/').unwrap();
        let (_, address) =
            gate.addresses.iter().find(|(port, _)| authority == format!("127.0.0.1:{port}")).unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if let Some(mut gate) = self.gate.take() {
            // It may have ended by itself; either way it is not to outlive the test.
            let _ = gate.process.kill();
            let _ = gate.process.wait();
        }
    }
}

/// A service like `python3 -m http.server`: files of `dir`, one at a time.
fn serve_files(dir: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let path =
                head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").trim_start_matches('/');
            let (status, body) = match std::fs::read(dir.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // The gate may have gone.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

fn makes(target: &str) -> bool {
    text("Makefile").lines().any(|line| line.starts_with(&format!("{target}:")))
}

#[test]
fn every_command_for_contributors_is_one_that_ci_runs_or_the_quick_start() {
    let ci = text(".ci/run");
    for document in TYPED {
        for Shown { command, .. } in commands(&text(document)) {
            if let Some(target) = command.strip_prefix("make ") {
                assert!(makes(target), "{document}: {command}");
            }
            if document != "README.md" {
                assert!(ci.lines().any(|line| line == command), "{document}: {command}");
            }
        }
    }
}

#[test]
fn every_command_of_portcullis_in_the_documents_exists() {
    let mut seen = 0;
    for (file, document) in documents() {
        // Commands go on behind a backslash.
        for line in document.replace("\\\n", " ").lines() {
            let line = line.trim().trim_start_matches("$ ");
            for command in inline(line) {
                let words: Vec<&str> = command
                    .split_whitespace()
                    .take_while(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
                    .collect();
                let depth = match words.as_slice() {
                    ["audit" | "policy", _, ..] => 2,
                    ["help", ..] | [] => continue,
                    [_, ..] => 1,
                };
                let command = &words[..depth];
                let helped = Command::new(BINARY).args(command).arg("--help").output().unwrap();
                assert!(helped.status.success(), "{file}: portcullis {}", command.join(" "));
                seen += 1;
            }
        }
    }
    assert!(seen >= 15, "only {seen} commands were found: are they still written in the same way?");
}

/// What follows `portcullis` where a line is such a command, or has some in backquotes.
fn inline(line: &str) -> Vec<&str> {
    let start =
        |text: &'_ str| -> Option<usize> { text.starts_with("portcullis ").then_some("portcullis ".len()) };
    if let Some(at) = start(line) {
        // Prose may begin a line with the name, too; a command has no capital and no full stop at its end.
        return if line.ends_with(['.', ',', ';']) { Vec::new() } else { vec![&line[at..]] };
    }
    line.split('`').skip(1).step_by(2).filter_map(|quoted| start(quoted).map(|at| &quoted[at..])).collect()
}

/// All documents, by path from the top.
fn documents() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in ["", "docs", "deploy", "benches"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for (file, document) in documents() {
        let dir = root().join(&file).parent().unwrap().to_owned();
        for target in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if !target.starts_with("http") && !target.starts_with('#') {
                let path = target.split('#').next().unwrap();
                assert!(dir.join(path).exists(), "{file}: {target}");
            }
        }
    }
}

#[test]
fn every_dependency_has_a_reason_in_the_architecture() {
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let architecture = text("docs/architecture.md");
    let section = architecture.split("## Dependencies").nth(1).unwrap();
    let named: BTreeSet<&str> =
        section.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).collect();
    for table in ["dependencies", "dev-dependencies"] {
        for name in manifest[table].as_table().unwrap().keys() {
            assert!(named.contains(name.as_str()), "{name} has no reason");
        }
    }
}

#[test]
fn the_guide_lists_the_metrics_there_are() {
    let mut sources = String::new();
    read_all(&root().join("src"), &mut sources);
    let there: BTreeSet<&str> = sources
        .split('"')
        .filter(|text| {
            text.starts_with("portcullis_") && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        })
        .filter(|text| !text.contains("__"))
        .collect();
    let guide = text("docs/operations.md");
    let listed: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("| `portcullis_").map(|_| &line[3..]))
        .filter_map(|line| line.split(['`', '{']).next())
        .filter(|name| !name.contains(' '))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn every_alarm_has_a_page_that_says_what_to_do_and_when_it_is_over() {
    let guide = text("docs/operations.md");
    let (_, rest) = guide.split_once("## Alarms\n").unwrap();
    let (alarms, rest) = rest.split_once("\n## Runbook\n").unwrap();
    let (runbook, _) = rest.split_once("\n## ").unwrap();
    let page_of = |row: &str| row.rsplit_once("](#").map(|(_, link)| link.trim_end_matches(") |").to_owned());
    let linked: BTreeSet<String> = alarms
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .map(|row| page_of(row).unwrap_or_default())
        .collect();
    let mut pages = BTreeSet::new();
    for page in runbook.split("\n### ").skip(1) {
        let title = page.lines().next().unwrap();
        for part in ["**You see**", "**It means**", "**Do**", "**It is over when**"] {
            assert!(page.contains(part), "{title}: {part} is missing");
        }
        pages.insert(title.to_lowercase().replace(' ', "-").replace('\'', ""));
    }
    assert_eq!(linked, pages);
}

fn read_all(dir: &Path, out: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
