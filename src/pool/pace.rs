//! How often the keeper sweeps: often while somebody waits for a server, seldom otherwise. A process that has nothing to do
//! wakes up for nothing else (18 times a second at a steady pace, 0.09 % of a core; tokio wakes twice for each tick).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// While somebody waits, or a server is being opened.
const BUSY_EVERY: Duration = Duration::from_millis(100);
/// Otherwise; what is done by the clock then is given in seconds.
const QUIET_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Pace {
    is_quiet: AtomicBool,
    hurried: Notify,
}

impl Pace {
    /// Somebody has begun to wait. While others do already, it is one comparison.
    #[inline]
    pub(super) fn hurry(&self) {
        if self.is_quiet.load(Ordering::Relaxed) {
            self.hurried.notify_one();
        }
    }

    /// Until the next sweep. `is_busy` locks what [`hurry`](Self::hurry) is called behind.
    pub(super) async fn pause(&self, is_busy: impl Fn() -> bool) {
        if !is_busy() {
            self.is_quiet.store(true, Ordering::SeqCst);
            // Looked at once more: whoever came in between saw no need to say so.
            let is_hurried = is_busy() || timeout(QUIET_EVERY, self.hurried.notified()).await.is_ok();
            self.is_quiet.store(false, Ordering::SeqCst);
            if !is_hurried {
                return;
            }
        }
        sleep(BUSY_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_slow_until_somebody_waits() {
        let pace = Arc::new(Pace::default());
        let took = async |is_busy: bool| {
            let start = Instant::now();
            pace.pause(|| is_busy).await;
            start.elapsed()
        };
        assert_eq!(took(true).await, BUSY_EVERY);
        assert!(took(false).await >= QUIET_EVERY);
        // In the middle of a pause.
        let hurries = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move {
                sleep(QUIET_EVERY / 5).await;
                pace.hurry();
            }
        });
        let hurried = took(false).await;
        hurries.await.unwrap();
        assert!(hurried < QUIET_EVERY / 2, "{hurried:?}");
        // Nobody was told twice.
        pace.hurry();
        assert!(took(false).await >= QUIET_EVERY);
    }
}
