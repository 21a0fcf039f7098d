//! Sidepool as people run it: a process.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::{Endpoint, PATIENCE, Postgres};

/// How long one look at whether the process has ended may be late.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Set, a Sidepool of the tests looks after each transaction for what the statements did not show, and the test in which there was
/// any fails: `SIDEPOOL_TEST_VERIFY=1 cargo test --test state`. Those that are about just that (tests/verify.rs) decide for themselves.
const VERIFY: &str = "SIDEPOOL_TEST_VERIFY";

/// How many threads the Sidepools of the tests have, where the test does not say: as many as a bigger machine would give them.
const WORKERS: &str = "SIDEPOOL_TEST_WORKERS";

/// What it says under [`VERIFY`] where something was found.
const MISSED: &str = "that no statement shows";

/// What is logged at the end of a reload.
const RELOADED: [&str; 2] = ["configuration reloaded", "configuration was not reloaded"];

/// Ends with its value; what it printed is shown when that happens in a test that fails.
#[derive(Debug)]
pub struct Sidepool {
    child: Child,
    output: Arc<Output>,
    ports: Ports,
    /// Its log is not to have [`MISSED`] in it.
    is_watched: bool,
    /// Its configuration and its state directory.
    place: tempfile::TempDir,
}

impl Sidepool {
    /// In front of `postgres`, with these flags: `("pool-size", "1")`.
    pub fn start(postgres: &Postgres, flags: &[(&str, &str)]) -> Self {
        Self::configured(postgres, flags, "")
    }

    /// With lines of its configuration file, which come below `upstream = …`.
    pub fn configured(postgres: &Postgres, flags: &[(&str, &str)], file: &str) -> Self {
        let file = format!("upstream = \"{}\"\n{file}", postgres.direct().url());
        Self::launch(flags, &file).unwrap_or_else(|refusal| panic!("Sidepool did not start: {refusal}"))
    }

    /// With this configuration file and no other.
    ///
    /// # Errors
    /// The exit status and all that it printed, when it ends instead of being ready (or must be killed, as it is not).
    pub fn launch(flags: &[(&str, &str)], file: &str) -> Result<Self, String> {
        let place = place(file);
        let mut command = command(place.path(), "run");
        command.args(listening(place.path(), flags));
        Self::spawn(command, place)
    }

    /// With arguments that are no options, and variables of its environment.
    ///
    /// # Errors
    /// As [`Sidepool::launch`].
    pub fn launch_in(env: &[(&str, &str)], arguments: &[&str], flags: &[(&str, &str)], file: &str) -> Result<Self, String> {
        let place = place(file);
        let mut command = command(place.path(), "run");
        command.args(listening(place.path(), flags)).args(arguments).envs(env.iter().copied());
        Self::spawn(command, place)
    }

    /// With this socket as systemd would pass it, under this name.
    ///
    /// # Errors
    /// As [`Sidepool::launch`].
    pub fn activated(socket: OwnedFd, name: &str, flags: &[(&str, &str)], file: &str) -> Result<Self, String> {
        let place = place(file);
        let plain = command(place.path(), "run");
        let mut command = Command::new("sh");
        // File descriptor 3 is the first that is passed, and the shell's process id will be Sidepool's.
        command.args(["-c", "export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null"]).arg(plain.get_program());
        command.args(plain.get_args()).args(listening(place.path(), flags)).current_dir(place.path());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
        command.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::spawn(command, place)
    }

    /// `sidepool dev` with its database in `data_dir`, and further arguments.
    ///
    /// # Errors
    /// As [`Sidepool::launch`].
    pub fn dev(data_dir: &Path, arguments: &[&str]) -> Result<Self, String> {
        let place = place("");
        let mut command = command(place.path(), "dev");
        command.args(listening(place.path(), &[])).arg("--data-dir").arg(data_dir).args(arguments);
        Self::spawn(command, place)
    }

    /// A command that ends by itself, with this configuration file.
    pub fn once(name: &str, arguments: &[&str], file: &str) -> Ended {
        let place = place(file);
        let mut child = command(place.path(), name).args(arguments).spawn().expect("cargo has built it");
        if ended(&mut child).is_none() {
            // Then its code is none.
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("it is our child");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    fn spawn(mut command: Command, place: tempfile::TempDir) -> Result<Self, String> {
        let mut child = command.spawn().expect("cargo has built it");
        let output = Arc::new(Output::default());
        let pipes: [Option<Box<dyn Read + Send>>; 2] =
            [child.stdout.take().map(|pipe| Box::new(pipe) as _), child.stderr.take().map(|pipe| Box::new(pipe) as _)];
        for pipe in pipes.into_iter().flatten() {
            Output::collect(Arc::clone(&output), pipe);
        }
        let is_watched = is_verified() && !command.get_args().any(|flag| flag.as_encoded_bytes().starts_with(b"--verify"));
        let mut sidepool = Self { child, output, ports: Ports::default(), is_watched, place };
        sidepool.ports = sidepool.ready()?;
        Ok(sidepool)
    }

    /// Session mode, as the upstream's own user.
    pub fn session(&self) -> Endpoint {
        Endpoint::new(self.ports.session.expect("session mode is on"))
    }

    /// Transaction mode, as the upstream's own user.
    pub fn transaction(&self) -> Endpoint {
        Endpoint::new(self.ports.transaction.expect("transaction mode is on"))
    }

    pub fn http_port(&self) -> u16 {
        self.ports.http.expect("HTTP is on")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far, both streams.
    pub fn log(&self) -> String {
        self.output.lines().join("\n")
    }

    /// Waits until a line has this in it.
    pub fn log_has(&self, text: &str) {
        let seen = self.output.wait(|lines| lines.iter().any(|line| line.contains(text)).then_some(()));
        assert!(seen.is_some(), "no line with {text:?} in {PATIENCE:?}:\n{}", self.log());
    }

    /// Puts another configuration file in the place of its own.
    pub fn rewrite(&self, file: &str) {
        std::fs::write(self.place.path().join("sidepool.toml"), file).expect("it is ours");
    }

    /// SIGHUP with another configuration file; comes back when that has been taken up or refused.
    pub fn reload(&self, file: &str) {
        let done = |lines: &[String]| lines.iter().filter(|line| RELOADED.iter().any(|text| line.contains(text))).count();
        let before = done(&self.output.lines());
        self.rewrite(file);
        self.signal(Signal::HUP);
        let seen = self.output.wait(|lines| (done(lines) > before).then_some(()));
        assert!(seen.is_some(), "no reload in {PATIENCE:?}:\n{}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a pid");
        // It may have ended.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// SIGINT, as Ctrl-C sends it, and what it ends with.
    pub fn interrupt(mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.ended().unwrap_or_else(|| panic!("it did not end on SIGINT"))
    }

    /// SIGTERM, and what it ends with.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().unwrap_or_else(|| panic!("it did not end on SIGTERM"))
    }

    /// `None` when it goes on.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        ended(&mut self.child)
    }

    fn ready(&mut self) -> Result<Ports, String> {
        self.output.wait(Ports::announced).ok_or_else(|| {
            // When it has ended, which is what closes both streams, this changes nothing about its status.
            let _ = self.child.kill();
            let status = self.child.wait().expect("it is our child");
            format!("{status}\n{}", self.log())
        })
    }
}

impl Drop for Sidepool {
    fn drop(&mut self) {
        // After `stop` there is nothing left of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- Sidepool said:\n{}\n----", self.log());
        } else if self.is_watched {
            let missed: Vec<String> = self.output.lines().into_iter().filter(|line| line.contains(MISSED)).collect();
            assert!(missed.is_empty(), "{VERIFY} found:\n{}", missed.join("\n"));
        }
    }
}

fn ended(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = child.try_wait().expect("it is our child");
        if status.is_some() || Instant::now() >= deadline {
            return status;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// What a command that ended by itself left behind.
#[derive(Debug)]
pub struct Ended {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

fn place(file: &str) -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("the temporary directory is writable");
    std::fs::write(place.path().join("sidepool.toml"), file).expect("it is ours");
    place
}

/// Nothing of the caller's environment decides what it does.
fn command(place: &Path, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sidepool"));
    command.arg(name).arg("--config").arg(place.join("sidepool.toml")).current_dir(place);
    command.env_clear().env("HOME", place).env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if is_verified() {
        command.env("SIDEPOOL_VERIFY", "true");
    }
    if let Some(workers) = std::env::var_os(WORKERS) {
        command.env("SIDEPOOL_WORKERS", workers);
    }
    command
}

fn is_verified() -> bool {
    std::env::var_os(VERIFY).is_some()
}

/// On free ports, unless `flags` have others.
fn listening(place: &Path, flags: &[(&str, &str)]) -> Vec<String> {
    let state = place.join("state").display().to_string();
    let own = [("listen-addresses", "127.0.0.1"), ("session-port", "0"), ("transaction-port", "0"), ("state-dir", &*state)];
    let given = |name: &str| flags.iter().any(|(flag, _)| *flag == name);
    own.iter().filter(|(name, _)| !given(name)).chain(flags).map(|(flag, value)| format!("--{flag}={value}")).collect()
}

#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    session: Option<u16>,
    transaction: Option<u16>,
    http: Option<u16>,
}

impl Ports {
    /// From `listening  transaction  127.0.0.1:6543` and the like, once `sidepool ready` follows.
    fn announced(lines: &[String]) -> Option<Self> {
        let end = lines.iter().position(|line| line.contains("sidepool ready"))?;
        let mut ports = Self::default();
        for line in &lines[..=end] {
            let Some((_, what)) = line.split_once("listening ") else { continue };
            let mut words = what.split_whitespace();
            let (Some(mode), Some(address)) = (words.next(), words.next()) else { continue };
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            match mode {
                "session" => ports.session = ports.session.or(port),
                "transaction" => ports.transaction = ports.transaction.or(port),
                "http" => ports.http = ports.http.or(port),
                _ => {}
            }
        }
        Some(ports)
    }
}

/// The lines of both streams, in the order they came.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<Collected>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Collected {
    lines: Vec<String>,
    ended: usize,
}

impl Output {
    fn collect(self: Arc<Self>, pipe: Box<dyn Read + Send>) {
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                self.state.lock().expect("nobody panics here").lines.push(line);
                self.changed.notify_all();
            }
            self.state.lock().expect("nobody panics here").ended += 1;
            self.changed.notify_all();
        });
    }

    fn lines(&self) -> Vec<String> {
        self.state.lock().expect("nobody panics here").lines.clone()
    }

    /// Until `found` finds something, both streams have ended, or patience has.
    fn wait<T>(&self, found: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let state = self.state.lock().expect("nobody panics here");
        let waiting = |state: &mut Collected| found(&state.lines).is_none() && state.ended < 2;
        let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, waiting).expect("nobody panics here");
        found(&state.lines)
    }
}
