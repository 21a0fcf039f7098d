//! The layer law: a module uses only what stands to its left.

use std::fs;
use std::path::{Path, PathBuf};

/// From left to right. `embedded` uses errors and configuration alone, and is used by the command line and the tests.
const LAYERS: [&str; 14] = [
    "hint",
    "error",
    "telemetry",
    "wire",
    "auth",
    "config",
    "net",
    "upstream",
    "pool",
    "session",
    "server",
    "admin",
    "http",
    "cli",
];
const ASIDE: &str = "embedded";
/// Neither a socket nor a clock.
const PURE: [&str; 2] = ["wire", "auth"];
const IMPURE: [&str; 5] = ["tokio::", "tokio_rustls", "Instant::now", "Moment::now", "SystemTime::now"];

/// The data path: it knows bytes and readiness by `net::stream::Stream` and tokio's traits for reading and writing, so that
/// another kind of stream can stand behind it.
const THROUGH_NET: [&str; 5] = ["wire", "auth", "upstream", "pool", "session"];
const SOCKETS: [&str; 12] = [
    "tokio::net",
    "tokio::io::unix",
    "AsyncFd",
    "mio::",
    "socket2",
    "rustix::net",
    "std::os::fd",
    "std::os::unix::net",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
];

#[test]
fn every_module_uses_only_what_stands_to_its_left() {
    let mut broken = Vec::new();
    for file in sources(Path::new("src")) {
        let own = layer_of(&file);
        let Some(place) = LAYERS.iter().position(|l| *l == own) else { continue };
        let text = fs::read_to_string(&file).expect("it was listed");
        let used = text.match_indices("crate::").filter_map(|(at, _)| word(&text[at + "crate::".len()..]));
        for used in used.filter(|u| *u != own) {
            let right = LAYERS.iter().position(|l| *l == used).is_some_and(|u| u > place);
            if right || (used == ASIDE && own != "cli") {
                broken.push(format!("{}: `crate::{used}` stands to the right of `{own}`", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_protocol_and_the_proofs_name_neither_a_socket_nor_a_clock() {
    for file in sources(Path::new("src")).into_iter().filter(|f| PURE.contains(&layer_of(f).as_str())) {
        let text = fs::read_to_string(&file).expect("it was listed");
        let named = IMPURE.iter().find(|word| text.contains(**word));
        assert_eq!(named, None, "{}", file.display());
    }
}

#[test]
fn the_data_path_knows_bytes_and_readiness_through_net_alone() {
    let mut broken = Vec::new();
    let mut through_net = 0;
    for file in sources(Path::new("src")).into_iter().filter(|f| THROUGH_NET.contains(&layer_of(f).as_str())) {
        let text = fs::read_to_string(&file).expect("it was listed");
        // What stands in a file for its tests may make sockets.
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        broken.extend(SOCKETS.iter().filter(|word| code.contains(**word)).map(|word| format!("{}: {word}", file.display())));
        through_net += usize::from(code.contains("crate::net::stream::"));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // Of which there are some, or these are not the files that were meant.
    assert!(through_net > 5, "{through_net}");
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("it is part of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs")
            && !path.components().any(|c| c.as_os_str().to_string_lossy().contains("tests"))
        {
            files.push(path);
        }
    }
    files
}

/// The first part of the path below `src`, without its ending.
fn layer_of(file: &Path) -> String {
    let below = file.strip_prefix("src").unwrap_or(file);
    let first = below.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

fn word(text: &str) -> Option<&str> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}
