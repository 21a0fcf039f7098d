//! PostgreSQL must not outlive us, even when we are killed. Linux would tell it so (`PR_SET_PDEATHSIG`), but only by code that
//! runs between fork and exec; instead a shell waits for the end of a pipe that we hold, and that nobody else has.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::Error;

/// `$1` is the pid to end; the rest are directories to remove then. A line on its input says that all is done already.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
read -r done && exit 0
pid=$1; shift
kill -INT "$pid" 2>/dev/null
tenths=0
while kill -0 "$pid" 2>/dev/null; do
    tenths=$((tenths + 1))
    [ "$tenths" = 50 ] && kill -QUIT "$pid" 2>/dev/null
    [ "$tenths" = 100 ] && kill -KILL "$pid" 2>/dev/null
    [ "$tenths" -gt 110 ] && break
    sleep 0.1
done
[ "$#" = 0 ] || rm -rf -- "$@"
"#;

#[derive(Debug)]
pub(super) struct Watcher(Child);

impl Watcher {
    pub(super) fn over(pid: u32, then_remove: &[PathBuf]) -> Result<Self, Error> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "sidepool-watcher"]).arg(pid.to_string()).args(then_remove);
        shell.current_dir("/").process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let failed = |error: std::io::Error| Error::Tool { command: "/bin/sh".into(), output: error.to_string() };
        shell.spawn().map(Self).map_err(failed)
    }

    /// There is nothing left to watch.
    pub(super) async fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // A watcher that is not there any more needs no dismissal.
            let _ = pipe.write_all(b"done\n").await;
        }
        let _ = self.0.wait().await;
    }
}
