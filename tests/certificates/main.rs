//! TLS on both sides of the process: with libpq in front and PostgreSQL behind. Traps have the numbers of the research on
//! poolers.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod pki;
mod psql;
mod upstream;

use std::fs;
use std::path::Path;

use common::{Postgres, Sidepool, until};
use pki::{Authority, Signed, show};
use psql::psql;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// With these lines in `[client_tls]`.
fn sidepool(lines: &str) -> Sidepool {
    Sidepool::configured(Postgres::shared(), &[], &format!("[users]\napp = \"secret\"\n[client_tls]\n{lines}"))
}

fn shown(certificates: &[&Signed]) -> String {
    let list = |file: fn(&Signed) -> &Path| {
        let files: Vec<_> = certificates.iter().map(|signed| format!("{:?}", show(file(signed)))).collect();
        files.join(", ")
    };
    format!("certificate = [{}]\nkey = [{}]\n", list(|signed| &signed.certificate), list(|signed| &signed.key))
}

/// To a host of that name, which is here, with a certificate of this authority.
fn to(host: &str, port: u16, authority: &Authority) -> String {
    let root = authority.certificate();
    format!("host={host} hostaddr=127.0.0.1 port={port} dbname=postgres sslmode=verify-full sslrootcert={}", show(&root))
}

#[tokio::test]
async fn libpq_binds_its_login_to_our_certificate_on_both_ports() {
    let sidepool = sidepool("");
    for port in [sidepool.session().port, sidepool.transaction().port] {
        let base = format!("host=127.0.0.1 port={port} dbname=postgres user=postgres");
        for protocol in ["TLSv1.2", "TLSv1.3"] {
            let pinned = format!("{base} ssl_min_protocol_version={protocol} ssl_max_protocol_version={protocol}");
            psql(&format!("{pinned} sslmode=require channel_binding=require")).await.is("postgres");
        }
        psql(&format!("{base} sslmode=require channel_binding=disable")).await.is("postgres");
        psql(&format!("{base} sslmode=disable")).await.is("postgres");
        psql(&format!("{base} sslmode=disable channel_binding=require")).await.fails_with("channel binding");
    }
}

/// With keys of either kind, in either version; and where there is no TLS, or no peer that speaks it.
#[tokio::test]
async fn a_24_tls_as_libpq_finds_it() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for server in [authority.sign("localhost", &["localhost"]), authority.sign_rsa("localhost", &["localhost"])] {
        let sidepool = sidepool(&shown(&[&server]));
        for port in [sidepool.session().port, sidepool.transaction().port] {
            for version in ["TLSv1.2", "TLSv1.3"] {
                let pinned = format!("user=postgres ssl_min_protocol_version={version} ssl_max_protocol_version={version}");
                psql(&format!("{} {pinned}", to("localhost", port, &authority))).await.is("postgres");
                psql(&format!("{} {pinned}", to("localhost", port, &stranger))).await.fails_with("certificate verify failed");
            }
            ends_with_an_alert(port).await;
        }
    }
    let plain = Sidepool::start(Postgres::shared(), &[("client-tls", "off")]);
    let port = plain.transaction().port;
    psql(&format!("{} user=postgres", to("localhost", port, &authority))).await.fails_with("server does not support SSL");
}

/// What is no TLS, where TLS was agreed on.
async fn ends_with_an_alert(port: u16) {
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    client.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'S');
    client.write_all(b"\0\0\0\x08\0\x03\0\0user").await.unwrap();
    let mut told = Vec::new();
    let read = tokio::time::timeout(common::PATIENCE, client.read_to_end(&mut told)).await.expect("in time");
    // A fatal alert, in a record of its own; it may come as a reset behind that, since not all was read.
    assert!(told.starts_with(&[21]) && told.get(5) == Some(&2), "{told:?} {read:?}");
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_host_a_client_asks_for() {
    let authority = Authority::new();
    let (one, two) = (authority.sign("one.test", &["one.test"]), authority.sign("two.test", &["two.test", "*.two.test"]));
    let sidepool = sidepool(&shown(&[&one, &two]));
    let port = sidepool.transaction().port;
    for host in ["one.test", "two.test", "db.two.test"] {
        psql(&format!("{} user=postgres channel_binding=require", to(host, port, &authority))).await.is("postgres");
    }
    psql(&format!("{} user=postgres", to("three.test", port, &authority))).await.fails_with("does not match host name");
}

#[tokio::test]
async fn what_each_mode_asks_of_a_clients_certificate() {
    let authority = Authority::new();
    let server = authority.sign("localhost", &["localhost"]);
    let ann = authority.sign("app", &[]);
    let alternative = authority.sign("somebody", &["app"]);
    let elsewhere = Authority::new();
    let stranger = elsewhere.sign("app", &[]);
    let nobody = "password authentication failed for user";
    let needed = "connection requires a valid client certificate";
    let other = "certificate authentication failed for user";
    // For each: the client's certificate, its password, and the error.
    for (mode, rows) in [
        ("verify-ca", [(Some(&ann), "", None), (Some(&alternative), "x", Some(nobody)), (None, "", Some(needed))]),
        ("verify-full", [(Some(&alternative), "", None), (Some(&ann), "x", Some(nobody)), (None, "", Some(needed))]),
        ("cert", [(Some(&ann), "x", None), (Some(&alternative), "x", None), (None, "", Some(needed))]),
    ] {
        let ca = authority.certificate();
        let sidepool = sidepool(&format!("{}client_ca = {:?}\nclient_cert = \"{mode}\"", shown(&[&server]), show(&ca)));
        let base = to("localhost", sidepool.transaction().port, &authority);
        for (certificate, password, error) in rows {
            let certificate = certificate.map(|signed| signed.parameters(" ")).unwrap_or_default();
            let password = if password.is_empty() { String::new() } else { format!("password={password}") };
            let said = psql(&format!("{base} user=app {certificate} {password}")).await;
            match error {
                None => said.is("app"),
                Some(error) => said.fails_with(error),
            }
        }
        // What the certificate names matters from verify-full on; `postgres` is not in it.
        let said = psql(&format!("{base} user=postgres {}", ann.parameters(" "))).await;
        if mode == "verify-ca" {
            said.is("postgres")
        } else {
            said.fails_with(other)
        }
        psql(&format!("{base} user=app {}", stranger.parameters(" "))).await.fails_with("unknown ca");
        let plain = base.replace("sslmode=verify-full", "sslmode=disable");
        psql(&format!("{plain} user=app")).await.fails_with(needed);
    }
}

#[tokio::test]
async fn trap_48_a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let old = Authority::new();
    let signed = old.sign("localhost", &["localhost"]);
    let sidepool = sidepool(&shown(&[&signed]));
    let port = sidepool.transaction().port;
    let mut connected = sidepool.transaction().wire().await;
    psql(&format!("{} user=postgres", to("localhost", port, &old))).await.is("postgres");

    let replace = |path: &Path, text: &str| {
        fs::write(old.path("new"), text).unwrap();
        fs::rename(old.path("new"), path).unwrap();
    };
    replace(&signed.certificate, "-----BEGIN NOTHING-----\n");
    // The file is looked at once a second; all the while the old certificate is shown.
    until("the bad file is noticed", async || {
        psql(&format!("{} user=postgres", to("localhost", port, &old))).await.is("postgres");
        sidepool.log().contains("cannot be used")
    })
    .await;

    let new = Authority::new();
    let (certificate, key) = new.pem("localhost", &["localhost"]);
    replace(&signed.key, &key);
    replace(&signed.certificate, &certificate);
    until("the new certificate is shown", async || {
        psql(&format!("{} user=postgres channel_binding=require", to("localhost", port, &new))).await.good
    })
    .await;
    psql(&format!("{} user=postgres", to("localhost", port, &old))).await.fails_with("certificate verify failed");
    assert_eq!(connected.value("SELECT 'still here'").await, "still here", "nobody was dropped");
    let complaints = sidepool.log().lines().filter(|line| line.contains("cannot be used")).count();
    assert!((1..=2).contains(&complaints), "said once for each state of the files:\n{}", sidepool.log());
}
