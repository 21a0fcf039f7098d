//! The page at `/` in Debian's chromium. The program is in `tests/dashboard/`; its pictures are in `target/dashboard/`.

mod common;
#[path = "clients/install.rs"]
mod install;
#[path = "clients/run.rs"]
mod run;

use std::path::Path;

use common::wire::{Wire, show_in_full};
use common::{Postgres, Sidepool};
use install::{Place, Recipe, needs};
use run::skip;

const CHROMIUM: &str = "/usr/bin/chromium";
const TOKEN: &str = "open sesame";

const BROWSER: Recipe = Recipe {
    name: "dashboard",
    versions: Some("dashboard/package.json"),
    files: &["clients/check.mjs", "dashboard/page.mjs"],
    install: install::npm,
};

fn browser() -> Result<Place, String> {
    needs(&["node", "npm", "pgbench"])?;
    if !Path::new(CHROMIUM).is_file() {
        return Err(format!("{CHROMIUM} is not installed"));
    }
    BROWSER.prepare()
}

#[tokio::test]
async fn the_page_in_a_browser_under_load() {
    let place = match browser() {
        Ok(place) => place,
        Err(missing) => return skip("the dashboard", &missing),
    };
    let pictures = place.directory.join("../../dashboard");
    std::fs::create_dir_all(&pictures).expect("target is ours");
    let http = ("http", "127.0.0.1:0");
    let sidepool = Sidepool::start(Postgres::shared(), &[http, ("pool-size", "4"), ("lint", "log")]);
    let guarded = Sidepool::start(Postgres::shared(), &[http, ("http-token", TOKEN)]);
    let [_pinned, mut ended] = clients(&sidepool).await;
    let mut killed = guarded.transaction().wire().await;
    let mut pgbench = load(&sidepool, &place);
    let url = |of: &Sidepool| format!("http://127.0.0.1:{}/", of.http_port());
    let environment = [
        ("PAGE", url(&sidepool)),
        ("GUARDED", url(&guarded)),
        ("TOKEN", TOKEN.to_owned()),
        ("SHOTS", pictures.display().to_string()),
        ("CHROMIUM", CHROMIUM.to_owned()),
        ("POOLER_PID", sidepool.pid().to_string()),
        ("LIMIT_MS", "280000".to_owned()),
    ];
    run::run("page", &place, &["node", "page.mjs"], &environment).await;
    for client in [&mut ended, &mut killed] {
        let told = show_in_full(&client.until_closed().await);
        assert_eq!(told, "E(FATAL | 57P01 | terminating connection due to administrator command)");
    }
    // Nobody else has noticed: it would have ended.
    assert_eq!(pgbench.try_wait().expect("it is our child"), None);
    let log = sidepool.log();
    for command in ["KILL_CLIENT", "PAUSE", "RESUME", "RECONNECT", "RELOAD", "DISABLE", "ENABLE"] {
        let line = format!("command over HTTP command=\"{command}\" about=");
        assert_eq!(log.matches(&line).count(), 1, "{line}: {log}");
    }
}

/// One that keeps a server for its temporary table, and one that is in a transaction.
async fn clients(sidepool: &Sidepool) -> [Wire; 2] {
    let named = |name: &str| sidepool.transaction().parameter("application_name", name);
    let (mut pinned, mut ended) = (named("reports").wire().await, named("checkout").wire().await);
    pinned.run("CREATE TEMP TABLE kept AS SELECT 'secret' AS word").await;
    ended.run("BEGIN").await;
    [pinned, ended]
}

/// Six clients for the two servers that are left, for longer than the page is looked at.
fn load(sidepool: &Sidepool, place: &Place) -> tokio::process::Child {
    let script = place.directory.join("load.sql");
    std::fs::write(&script, "SELECT pg_sleep(0.005 + 0.02 * random());\n\\sleep 20 ms\n").expect("target is ours");
    let mut pgbench = tokio::process::Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--client=6", "--time=600", "--file"]).arg(script).arg(sidepool.transaction().url());
    pgbench.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::inherit());
    pgbench.kill_on_drop(true).spawn().expect("it was looked for")
}
