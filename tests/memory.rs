//! What many clients took is given back when they have gone.
//!
//! Clients that merely sleep take too little for that to show: each has a setting of 8 KiB of its own here. A thread keeps
//! some 350 KiB for what it may want next, and there may be four.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod common;

use common::{Postgres, Sidepool, at_once, until};

const BURST: usize = 800;
const SETTING_KIB: usize = 8;

#[tokio::test]
async fn a_burst_of_clients_leaves_no_memory_behind() {
    let sidepool = Sidepool::start(Postgres::shared(), &[("pool-size", "5"), ("client-auth", "trust")]);
    let endpoint = sidepool.transaction();
    let come = |count| {
        at_once((0..count).map(|number| {
            let endpoint = endpoint.clone();
            async move {
                let mut client = endpoint.wire().await;
                client.query(&format!("SET burst.value = '{number:0width$}'", width = SETTING_KIB * 1024)).await;
                client
            }
        }))
    };
    // Those that servers are opened for, and tables are made by.
    drop(come(10).await);
    let before = own_kib(sidepool.pid());
    let clients = come(BURST).await;
    let taken = own_kib(sidepool.pid()).saturating_sub(before);
    assert!(taken > SETTING_KIB * BURST, "{taken} KiB for {BURST} clients that came at once are too few to show anything");
    drop(clients);
    until("most of it is given back", async || own_kib(sidepool.pid()).saturating_sub(before) < taken / 3).await;
}

/// Resident memory that is no file's, in KiB.
fn own_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux says so");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number of KiB")
}
