//! libpq, through psql, and tokio-postgres.

use std::process::{Output, Stdio};

use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_postgres::{Config, NoTls};

use super::bed::{Bed, PASSWORD, admitted, read};
use super::*;
use crate::net::socket::TcpOptions;
use crate::wire::reply::{self, TransactionStatus};

const PSQL: &str = "/usr/lib/postgresql/15/bin/psql";

/// Greets one client after another, lets those who get in believe that they reached a server, and says which project
/// and user they came as.
async fn serve(context: LoginContext, listener: TcpListener) -> Vec<String> {
    let mut seen = Vec::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let socket = Socket::tcp(stream.into_std().unwrap(), peer, &TcpOptions::CLIENT).unwrap();
        let arrival = greet(socket, &context).await;
        if !matches!(arrival, Ok(Arrival::Client(_))) {
            continue;
        }
        let mut login = admitted(arrival);
        seen.push(format!("{}/{}/{}", login.who.route.project.name, login.who.route.user, login.who.route.database));
        reply::parameter_status(&mut login.greeting, "client_encoding", "UTF8");
        reply::backend_key_data(&mut login.greeting, 1, b"1234");
        reply::ready_for_query(&mut login.greeting, TransactionStatus::Idle);
        send(&mut login.stream, &login.greeting).await.unwrap();
        while read(&mut login.stream).await.is_some_and(|message| message.0 == b'Q') {
            send(&mut login.stream, b"I\0\0\0\x04Z\0\0\0\x05I").await.unwrap();
        }
        if seen.last().is_some_and(|last| last.ends_with("/stop")) {
            break;
        }
    }
    seen
}

async fn psql(conninfo: &str) -> Output {
    let mut command = Command::new(PSQL);
    command.args(["-X", "-w", "-c", "SELECT 1", conninfo]).stdin(Stdio::null()).env_clear().env("PGPASSWORD", PASSWORD);
    command.output().await.unwrap()
}

#[tokio::test]
async fn psql_with_and_without_tls() {
    let bed = Bed::new().with_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(serve(bed.context.clone(), listener));
    let base =
        format!("host=localhost hostaddr=127.0.0.1 port={port} sslrootcert={}", bed.certificates.path().join("ca.crt").display());
    for (rest, good) in [
        ("user=postgres.abc sslmode=disable", true),
        ("user=postgres.abc dbname=shop sslmode=require", true),
        ("user=postgres dbname=shop sslmode=verify-full", true),
        ("user=postgres dbname=shop sslmode=require channel_binding=require", true),
        ("user=postgres dbname=shop sslmode=require channel_binding=disable", true),
        ("user=postgres dbname=shop sslmode=disable channel_binding=require", false),
        ("user=nobody dbname=shop sslmode=disable", false),
        ("user=postgres dbname=stop sslmode=prefer options=reference=def gssencmode=prefer", true),
    ] {
        let output = psql(&format!("{base} {rest}")).await;
        assert_eq!(output.status.success(), good, "{rest}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let seen = serving.await.unwrap();
    assert_eq!(
        seen,
        ["*/postgres/postgres", "*/postgres/shop", "*/postgres/shop", "*/postgres/shop", "*/postgres/shop", "*/postgres/stop"]
    );
}

#[tokio::test]
async fn what_people_read_after_a_wrong_password() {
    let bed = Bed::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(serve(bed.context.clone(), listener));
    let output = psql(&format!("host=127.0.0.1 port={port} user=ann.abc dbname=x")).await;
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("FATAL:  password authentication failed for user \"ann\""), "{text}");
    serving.abort();
}

#[tokio::test]
async fn tokio_postgres() {
    let bed = Bed::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new();
    config.host("127.0.0.1").port(listener.local_addr().unwrap().port()).user("postgres.abc").dbname("stop");
    let serving = tokio::spawn(serve(bed.context.clone(), listener));
    let error = config.clone().password("wrong").connect(NoTls).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
    let (client, connection) = config.password(PASSWORD).connect(NoTls).await.unwrap();
    drop((client, connection));
    assert_eq!(serving.await.unwrap(), ["*/postgres/stop"]);
}
