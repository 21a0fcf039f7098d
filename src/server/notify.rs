//! What a service manager is told: sd_notify(3), a datagram for each piece of news.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::Env;
use crate::telemetry::Moment;

/// Where news go, and how often a sign of life is wanted. Without a service manager it is all silence.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    socket: Option<SocketAddr>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`, as sd_watchdog_enabled(3) reads them.
    pub fn new(env: &Env) -> Self {
        let ours = |pid: &String| *pid == std::process::id().to_string();
        let watched = env.get("WATCHDOG_PID").is_none_or(ours);
        let us = env.get("WATCHDOG_USEC").filter(|_| watched).and_then(|us| us.parse().ok()).filter(|us| *us > 0);
        Self { socket: env.get("NOTIFY_SOCKET").and_then(|path| address(path)), watchdog: us.map(Duration::from_micros) }
    }

    /// Clients are met. `MAINPID` for where another process began the service, whose work this one took over.
    pub fn ready(&self) {
        self.tell(&format!("READY=1\nMAINPID={}\nSTATUS=Accepting clients", std::process::id()));
    }

    /// The settings are being read again; [`ready`](Self::ready) ends it.
    pub fn reloading(&self) {
        let us = Moment::now().us();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// News for people.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Signs of life, twice as often as they are wanted. To be spawned on the runtime that carries clients' data: a worker
    /// that hangs is what the watchdog is for.
    pub async fn keep_alive(self) {
        let Some(every) = self.watchdog.map(|limit| limit / 2) else { return };
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            self.tell("WATCHDOG=1");
        }
    }

    /// Nobody is the worse for news that do not arrive.
    fn tell(&self, news: &str) {
        let Some(address) = &self.socket else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(news.as_bytes(), address)
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "cannot tell the service manager: {news:?}");
        }
    }
}

/// A path, or a name in the abstract namespace behind `@`.
fn address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(text).ok().filter(|_| text.starts_with('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(pairs: &[(&str, String)]) -> Notify {
        Notify::new(&pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_told_arrives() {
        let place = tempfile::tempdir().expect("the temporary directory is writable");
        let path = place.path().join("notify");
        let heard = UnixDatagram::bind(&path).expect("it is ours");
        let mut room = [0; 200];
        let mut next = || {
            let length = heard.recv(&mut room).expect("something comes");
            String::from_utf8_lossy(&room[..length]).into_owned()
        };
        let pid = std::process::id().to_string();
        let notify = notify(&[
            ("NOTIFY_SOCKET", path.display().to_string()),
            ("WATCHDOG_USEC", "2000".into()),
            ("WATCHDOG_PID", pid.clone()),
        ]);
        notify.ready();
        assert!(next().starts_with(&format!("READY=1\nMAINPID={pid}\n")));
        notify.reloading();
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        notify.stopping("Draining");
        assert_eq!(next(), "STOPPING=1\nSTATUS=Draining");
        let alive = tokio::spawn(notify.keep_alive());
        assert_eq!([next(), next()], ["WATCHDOG=1", "WATCHDOG=1"]);
        alive.abort();
    }

    #[tokio::test]
    async fn without_a_manager_or_with_anothers_watchdog_there_is_silence() {
        notify(&[]).ready();
        assert!(notify(&[("NOTIFY_SOCKET", "relative".into())]).socket.is_none());
        let other = notify(&[("WATCHDOG_USEC", "2000".into()), ("WATCHDOG_PID", "1".into())]);
        assert_eq!(other.watchdog, None);
        // It ends at once.
        other.keep_alive().await;
    }
}
