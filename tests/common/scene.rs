//! What many tests do around the one thing that they are about.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::wire::{self, Reply, Wire, show};
use super::{Endpoint, Postgres, Sidepool, until};

impl Sidepool {
    /// One worker and one server per pool: whoever comes next gets the server of whoever went.
    pub fn with_one_server() -> Self {
        Self::start(Postgres::shared(), &[("pool-size", "1"), ("workers", "1")])
    }

    /// Comes back when the pooler has taken up what was sent to it before: on its one worker a login comes after that.
    pub async fn has_read(&self) {
        drop(self.transaction().database("postgres").wire().await);
    }

    /// The status that `/readyz` answers with.
    pub async fn readyz(&self) -> u16 {
        let answer = self.http_get("/readyz").await;
        answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status")
    }

    /// `/metrics`, with the head of the answer.
    pub async fn metrics(&self) -> String {
        self.http_get("/metrics").await
    }

    async fn http_get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http_port())).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    }
}

impl Postgres {
    /// Waits until this backend is in the middle of `pg_sleep`.
    pub async fn sleeps(&self, pid: &str) {
        let mut watch = self.direct().wire().await;
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
        until("the query sleeps", async || watch.value(&sql).await == "1").await;
    }

    /// Waits until this backend runs nothing.
    pub async fn is_idle(&self, pid: &str) {
        let mut watch = self.direct().wire().await;
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state <> 'idle'");
        until("the backend is idle", async || watch.value(&sql).await == "0").await;
    }

    /// Waits until there is no such backend.
    pub async fn is_gone(&self, pid: &str) {
        let mut watch = self.direct().wire().await;
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        until("the backend is gone", async || watch.value(&sql).await == "0").await;
    }

    pub async fn terminate(&self, pid: &str) {
        let mut watch = self.direct().wire().await;
        assert_eq!(watch.value(&format!("SELECT pg_terminate_backend({pid}, 10000)")).await, "t");
    }
}

impl Wire {
    /// The process that runs its queries, whatever it was told.
    pub async fn backend(&mut self) -> String {
        self.value("SELECT pg_backend_pid()").await
    }

    /// Simple queries of which none may fail.
    pub async fn run(&mut self, sql: &str) {
        let replies = self.query(sql).await;
        assert!(replies.iter().all(|reply| reply.tag != b'E'), "{sql}: {}", wire::show_in_full(&replies));
    }

    /// One simple query, shown.
    pub async fn shown(&mut self, sql: &str) -> String {
        show(&self.query(sql).await)
    }

    /// These messages in one write, and what comes up to the last of so many ReadyForQuery, shown.
    pub async fn shown_batch(&mut self, frames: &[Vec<u8>], ready: usize) -> String {
        self.send(&frames.concat()).await;
        let mut replies = Vec::new();
        for _ in 0..ready {
            replies.extend(self.until(b'Z').await);
        }
        show(&replies)
    }

    /// One simple query, up to its ReadyForQuery or the connection's end.
    pub async fn query_or_end(&mut self, sql: &str) -> Vec<Reply> {
        let mut replies = Vec::new();
        if self.try_send(&wire::query(sql)).await.is_err() {
            return replies;
        }
        while let Ok(reply) = self.try_next().await {
            let ready = reply.tag == b'Z';
            replies.push(reply);
            if ready {
                break;
            }
        }
        replies
    }

    /// Waits for a reply to a query that was sent before: the first value of its first row.
    pub async fn awaited_value(&mut self) -> String {
        let replies = self.until(b'Z').await;
        let row = replies.iter().find(|reply| reply.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("no row in {}", wire::show_in_full(&replies)));
        row.values().swap_remove(0).expect("not NULL")
    }
}

impl Endpoint {
    /// A simple query on a connection of its own.
    pub async fn value(&self, sql: &str) -> String {
        self.wire().await.value(sql).await
    }
}

/// Parse, Bind, Execute of a statement without a name.
pub fn unnamed(sql: &str) -> Vec<u8> {
    [wire::parse("", sql), wire::bind("", "", &[]), wire::execute("", 0)].concat()
}

/// What the process has in memory, in KiB.
pub fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number of KiB")
}
