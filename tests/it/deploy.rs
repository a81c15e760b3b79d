//! What `deploy/` ships is sound, as far as that can be seen without installing it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends when something is not as it should be, in its helpers too"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `60`, `60s` or `2min` in seconds.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("no time: {text}"));
    match unit {
        "" | "s" => number,
        "m" | "min" => number * 60,
        _ => panic!("no time: {text}"),
    }
}

/// A unit file's values by section and key, in order; a key may be there several times.
fn unit(text: &str) -> BTreeMap<(String, String), Vec<String>> {
    let (mut section, mut values) = (String::new(), BTreeMap::<_, Vec<String>>::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            continue;
        }
        let (key, value) =
            line.split_once('=').unwrap_or_else(|| panic!("line {number} is no assignment: {line}"));
        values.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
    }
    values
}

#[test]
fn the_unit_takes_from_the_gate_what_it_does_not_need() {
    let unit = unit(&deploy("portcullis.service"));
    let service = |key: &str| {
        unit.get(&("Service".into(), key.into())).unwrap_or_else(|| panic!("{key} is not set")).clone()
    };
    for (key, value) in [
        ("User", "portcullis"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("AmbientCapabilities", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictNamespaces", "yes"),
        ("RestrictSUIDSGID", "yes"),
        ("LockPersonality", "yes"),
        ("ProtectKernelTunables", "yes"),
        ("ProtectKernelModules", "yes"),
        ("ProtectControlGroups", "yes"),
        ("SystemCallArchitectures", "native"),
        ("LimitCORE", "0"),
        ("UMask", "0077"),
        ("StateDirectoryMode", "0700"),
        ("KillSignal", "SIGTERM"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
    ] {
        assert_eq!(service(key), [value], "{key}");
    }
    assert_eq!(service("SystemCallFilter"), ["@system-service", "~@privileged"]);
}

#[test]
fn a_stop_leaves_time_for_the_drain() {
    let unit = unit(&deploy("portcullis.service"));
    let wait = seconds(&unit[&("Service".into(), "TimeoutStopSec".into())][0]);
    let config =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/portcullis.toml"))
            .unwrap();
    let drain = config
        .lines()
        .find_map(|line| line.trim_start_matches("# ").strip_prefix("drain_timeout = \""))
        .unwrap();
    let drain = seconds(drain.split('"').next().unwrap());
    assert!(wait > drain, "TimeoutStopSec {wait} s, drain_timeout {drain} s");
    let compose = deploy("compose.yaml");
    let grace = compose.lines().find_map(|line| line.trim().strip_prefix("stop_grace_period: ")).unwrap();
    assert!(seconds(grace) > drain, "stop_grace_period {grace}, drain_timeout {drain} s");
}

/// The guide's steps for systemd, with directories below `root` in place of the machine's. The issuer is the one for
/// development; in the guide it is the reader's own.
#[test]
fn the_guide_leads_to_a_gate_that_the_unit_can_start() {
    let root = tempfile::tempdir().unwrap();
    let (etc, var) = (root.path().join("etc"), root.path().join("var"));
    let moved = |text: &str| {
        text.replace("/etc/portcullis", etc.to_str().unwrap())
            .replace("/var/lib/portcullis", var.to_str().unwrap())
    };
    let run = |script: &str| {
        let script = format!("set -e\nportcullis() {{ '{BINARY}' \"$@\"; }}\n{script}");
        let output = Command::new("bash").args(["-c", &script]).current_dir(root.path()).output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::create_dir_all(etc.join("policies")).unwrap();
    std::fs::create_dir_all(var.join("keys")).unwrap();
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["model.conf", "policy.csv"] {
        std::fs::copy(sources.join("policies").join(file), etc.join("policies").join(file)).unwrap();
    }
    let guide = deploy("README.md");
    let config = std::fs::read_to_string(sources.join("config/portcullis.toml")).unwrap();
    let config = edited(&config, &blocks(&guide, "toml")[0]).replace("../data/keys/dev", "../made/keys/dev");
    std::fs::write(etc.join("portcullis.toml"), moved(&config)).unwrap();
    run("portcullis init made");

    let steps = blocks(&guide, "sh").into_iter().find(|block| block.contains("setpriv")).unwrap();
    let steps: Vec<String> = steps
        .replace("\\\n", " ")
        .lines()
        .map(|line| line.replace("setpriv --reuid portcullis --regid portcullis --clear-groups", ""))
        .filter(|line| !line.starts_with("systemctl "))
        .collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    run(&moved(&steps.join("\n")));

    let unit = unit(&deploy("portcullis.service"));
    let start = |key: &str| {
        let line = &unit[&("Service".into(), key.into())][0];
        moved(line.strip_prefix("/usr/local/bin/").expect("where the guide puts it"))
    };
    run(&start("ExecStartPre"));
    run(&format!("{} --help", start("ExecStart")));
}

/// The code blocks of one language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let (mut found, mut within) = (Vec::<String>::new(), false);
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(word) => {
                within = word == language;
                if within {
                    found.push(String::new());
                }
            }
            None if within => found.last_mut().unwrap().extend([line, "\n"]),
            None => {}
        }
    }
    found
}

/// `config` with the settings that `changes` has, in the same tables.
fn edited(config: &str, changes: &str) -> String {
    let changes: toml::Table = changes.parse().unwrap();
    let (mut table, mut out, mut made) = (String::new(), String::new(), 0);
    for line in config.lines() {
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut table);
        }
        let change = line.split_once(" = ").and_then(|(key, _)| Some((key, changes.get(&table)?.get(key)?)));
        match change {
            Some((key, value)) => {
                out.push_str(&format!("{key} = {value}\n"));
                made += 1;
            }
            None => out.extend([line, "\n"]),
        }
    }
    let wanted: usize = changes.values().map(|table| table.as_table().unwrap().len()).sum();
    assert_eq!(made, wanted, "the guide changes settings that the config does not write out");
    out
}

#[test]
fn systemd_holds_the_sockets_that_the_config_names() {
    let socket = unit(&deploy("portcullis.socket"));
    let held = &socket[&("Socket".into(), "ListenStream".into())];
    let config =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/portcullis.toml"))
            .unwrap();
    let config: toml::Table = config.parse().unwrap();
    let named =
        [config["server"]["listen"][0].as_str().unwrap(), config["admin"]["listen"].as_str().unwrap()];
    assert_eq!(held, &named);
    assert_eq!(socket[&("Socket".into(), "Service".into())], ["portcullis.service"]);
    let service = unit(&deploy("portcullis.service"));
    assert_eq!(service[&("Service".into(), "Type".into())], ["notify"]);
}

#[test]
fn the_monitors_unit_is_held_as_tight_as_the_gates_and_its_command_is_one() {
    let (gate, monitor) = (unit(&deploy("portcullis.service")), unit(&deploy("portcullis-monitor@.service")));
    let tight = |key: &str| {
        [
            "Protect",
            "Private",
            "Restrict",
            "Capability",
            "Ambient",
            "SystemCall",
            "Lock",
            "Memory",
            "NoNew",
            "Limit",
        ]
        .iter()
        .any(|begin| key.starts_with(begin))
            && key != "LimitNOFILE"
    };
    let mut held = 0;
    for (key, value) in gate.iter().filter(|((section, key), _)| section == "Service" && tight(key)) {
        assert_eq!(monitor.get(key), Some(value), "{key:?}");
        held += 1;
    }
    assert!(held > 20, "{held}");
    // The command line is taken, up to what it names.
    let start = &monitor[&("Service".into(), "ExecStart".into())][0];
    let words = start
        .strip_prefix("/usr/local/bin/portcullis ")
        .unwrap()
        .replace("${URL}", "http://127.0.0.1:9")
        .replace("${VKEY}", "no+key")
        .replace("$OPTIONS", "--metrics 127.0.0.1:9903 --records");
    let output = Command::new(BINARY).args(words.split(' ')).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--vkey: "), "{output:?}");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let monitor = dir.path().join("portcullis-monitor@.service");
    let text = deploy("portcullis-monitor@.service").replace("/usr/local/bin/portcullis", BINARY);
    std::fs::write(&monitor, text).unwrap();
    let instance = dir.path().join("portcullis-monitor@gate-1.service");
    let path = dir.path().join("portcullis.service");
    // It wants to see the binary, which is not installed here.
    std::fs::write(&path, deploy("portcullis.service").replace("/usr/local/bin/portcullis", BINARY)).unwrap();
    let socket = dir.path().join("portcullis.socket");
    std::fs::write(&socket, deploy("portcullis.socket")).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([&path, &socket, &instance])
        .output();
    let verified = match verify {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("systemd-analyze is not installed: the unit was only parsed");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    // Other units of this machine are not ours to judge.
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("portcullis.s") || line.contains("portcullis-monitor"))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// A Dockerfile's instructions: continued lines joined, comments dropped.
fn instructions() -> Vec<(String, String)> {
    let text = deploy("Dockerfile");
    let mut joined = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(start) => joined.push_str(start),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no instruction: {line}"));
            assert_eq!(word, word.to_uppercase(), "{line}");
            (word.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

fn the_only<'a>(stage: &'a [(String, String)], word: &str) -> &'a str {
    let found: Vec<&str> = stage.iter().filter(|(w, _)| w == word).map(|(_, rest)| rest.as_str()).collect();
    let [only] = found.as_slice() else { panic!("{word} stands there {} times", found.len()) };
    only
}

fn last_stage(instructions: &[(String, String)]) -> &[(String, String)] {
    let from = instructions.iter().rposition(|(word, _)| word == "FROM").unwrap();
    &instructions[from..]
}

#[test]
fn the_image_is_built_in_one_stage_and_runs_in_another() {
    let instructions = instructions();
    let bases: Vec<&str> =
        instructions.iter().filter(|(word, _)| word == "FROM").map(|(_, rest)| rest.as_str()).collect();
    assert!(bases.len() >= 2, "{bases:?}");
    for base in &bases {
        let image = base.split(' ').next().unwrap();
        let tag = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        assert!(
            tag != "latest" && tag.bytes().any(|b| b.is_ascii_digit()),
            "{image} may be anything tomorrow"
        );
    }
    let last = last_stage(&instructions);
    assert!(!last[0].1.contains("rust"), "the compiler would ship with it");
    assert!(last.iter().all(|(word, _)| word != "ADD"), "ADD fetches and unpacks");
    for (_, source) in last.iter().filter(|(word, _)| word == "COPY") {
        assert!(source.starts_with("--from="), "the sources would ship with it: {source}");
    }
}

#[test]
fn the_image_fetches_no_script() {
    for (_, rest) in instructions() {
        for fetcher in ["curl", "wget", "http://", "https://", "| sh", "| bash"] {
            assert!(!rest.contains(fetcher), "{rest}");
        }
    }
}

#[test]
fn the_image_runs_as_nobody_in_particular() {
    let instructions = instructions();
    let stage = last_stage(&instructions);
    let user = the_only(stage, "USER");
    let ids: Vec<u32> =
        user.split(':').map(|id| id.parse().unwrap_or_else(|_| panic!("{user} is not numeric"))).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id >= 1000), "{user}");
    assert_eq!(the_only(stage, "STOPSIGNAL"), "SIGTERM");
    assert_eq!(the_only(stage, "VOLUME"), "/var/lib/portcullis");
    let owned = format!("--chown={user} ");
    assert!(stage.iter().any(|(word, rest)| word == "COPY"
        && rest.contains(&owned)
        && rest.ends_with("/var/lib/portcullis")));
    let command: Vec<String> = [the_only(stage, "ENTRYPOINT"), the_only(stage, "CMD")]
        .iter()
        .flat_map(|list| {
            serde_json::from_str::<Vec<String>>(list).expect("exec form, so that SIGTERM reaches the gate")
        })
        .collect();
    assert_eq!(
        command,
        ["/usr/local/bin/portcullis", "serve", "--config", "/etc/portcullis/portcullis.toml"]
    );
}

#[test]
fn the_container_may_write_nothing_but_its_volume() {
    let compose = deploy("compose.yaml");
    for line in
        ["read_only: true", "cap_drop: [\"ALL\"]", "security_opt: [\"no-new-privileges:true\"]", "core: 0"]
    {
        assert!(compose.lines().any(|l| l.trim() == line), "{line}");
    }
}

/// Runs the image's health check against a listener that answers with `status_line`.
fn checked(status_line: &'static str) -> bool {
    let instructions = instructions();
    let check = the_only(last_stage(&instructions), "HEALTHCHECK");
    let command: Vec<String> = serde_json::from_str(&check[check.find("CMD ").unwrap() + 4..]).unwrap();
    assert!(command.iter().any(|word| word.contains("127.0.0.1/9902")), "{command:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .collect();
        stream.write_all(format!("{status_line}\r\ncontent-length: 0\r\n\r\n").as_bytes()).unwrap();
        head
    });
    let ran = Command::new(PathBuf::from(&command[0]))
        .args(command[1..].iter().map(|word| word.replace("9902", &port)))
        .status()
        .unwrap();
    assert_eq!(answering.join().unwrap(), ["GET /livez HTTP/1.0"]);
    ran.success()
}

#[test]
fn the_health_check_tells_a_living_gate_from_another() {
    assert!(checked("HTTP/1.0 200 OK"));
    assert!(!checked("HTTP/1.0 503 Service Unavailable"));
}
