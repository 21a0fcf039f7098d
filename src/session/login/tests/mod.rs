//! Clients good and bad, over real sockets. Traps have the numbers of the research on poolers.

pub(super) mod bed;
mod fuzz;
mod real_clients;
mod strangers;
mod tls;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::auth::keys::{ITERATIONS_DEFAULT, ScramKeys};
use crate::auth::verifier::Verifier;
use crate::config::{Password, Secret};
use crate::error::SqlState;
use crate::net::socket::Peer;
use crate::wire::authentication::Authentication;
use crate::wire::password::SaslInitialResponse;
use crate::wire::request::{self, SSL_REQUEST};
use crate::wire::startup::HEAD_BYTES;

use bed::{Bed, PASSWORD, admitted, project, read, scram, settings, startup_packet, write_request};

const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

fn remote() -> Peer {
    Peer::Tcp("10.1.2.3:4444".parse().unwrap())
}

fn failed(arrival: Result<Arrival, Failure>) -> Failure {
    match arrival {
        Err(failure) => failure,
        other => panic!("{other:?}"),
    }
}

fn gone(arrival: Result<Arrival, Failure>) {
    assert!(matches!(arrival, Ok(Arrival::Gone)), "{arrival:?}");
}

// ---- Who gets in

#[tokio::test]
async fn the_upstreams_own_user_with_its_password() {
    let bed = Bed::new();
    let login = admitted(bed.login("postgres.abcdefgh", PASSWORD).await.0);
    assert_eq!(
        (login.who.route.project.name.as_str(), login.who.route.user.as_str(), login.who.route.database.as_str()),
        ("*", "postgres", "postgres")
    );
    assert_eq!(login.credential, Credential::Password(Password::new(PASSWORD)));
}

#[tokio::test]
async fn listed_users_by_password_or_verifier() {
    let keys = ScramKeys::derive("pass-through", b"salt", ITERATIONS_DEFAULT);
    let verifier = Verifier::from_keys(&keys, b"salt", ITERATIONS_DEFAULT).to_text();
    let bed = Bed::with_users(vec![
        ("ann", Secret::Password(Password::new("anns"))),
        ("bob", Secret::Verifier(Password::new(verifier))),
        ("postgres", Secret::Password(Password::new("for clients"))),
    ]);
    assert_eq!(admitted(bed.login("ann", "anns").await.0).credential, Credential::Password(Password::new("anns")));
    // Only what the client proved can log in for it upstream.
    assert_eq!(admitted(bed.login("bob", "pass-through").await.0).credential, Credential::ScramKeys(keys));
    // What is listed is for clients; upstream the configured credential stays.
    assert_eq!(admitted(bed.login("postgres", "for clients").await.0).credential, Credential::Password(Password::new(PASSWORD)));
    assert!(bed.login("postgres", PASSWORD).await.0.is_err());
}

#[tokio::test]
async fn wrong_passwords_and_unknown_users_are_told_the_same() {
    let bed = Bed::new();
    for user in ["postgres", "nobody"] {
        let (arrival, told) = bed.login(&format!("{user}.abcdefgh"), "wrong").await;
        let expected = ("28P01".to_owned(), format!("password authentication failed for user \"{user}\""));
        assert_eq!(told.unwrap().error(), expected);
        assert_eq!(failed(arrival).told.map(|error| error.code), Some(SqlState::INVALID_PASSWORD));
    }
}

#[tokio::test]
async fn trap_59_salts_do_not_tell_who_exists() {
    let bed = Bed::new();
    let salt = async |user: &str| {
        let (mut client, _greeting) = bed.knock();
        client.write_all(&startup_packet(0, &format!("user\0{user}\0"))).await.unwrap();
        read(&mut client).await.unwrap();
        write_request(&mut client, |out| request::sasl_initial_response(out, "SCRAM-SHA-256", b"n,,n=,r=abc")).await;
        let message = read(&mut client).await.unwrap().1;
        let text = String::from_utf8_lossy(&message[4..]).into_owned();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    for user in ["postgres", "nobody"] {
        let first = salt(user).await;
        assert_eq!(first, salt(user).await, "{user}");
        assert!(first.ends_with(",i=4096") && first.len() == 24 + 7, "{first}");
    }
}

#[tokio::test]
async fn trap_64_the_password_is_derived_once() {
    let bed = Bed::new();
    admitted(bed.login("postgres", PASSWORD).await.0);
    let salt = bed.context.secret.salt("*", "postgres");
    assert!(bed.context.keys.get(PASSWORD, &salt, ITERATIONS_DEFAULT).is_some());
}

#[tokio::test]
async fn trap_67_empty_and_unusable_secrets_admit_nobody() {
    let bed = Bed::with_users(vec![
        ("empty", Secret::Password(Password::new(""))),
        ("hashed", Secret::Verifier(Password::new(format!("md5{}", "0a".repeat(16))))),
    ]);
    for (user, password) in [("empty", ""), ("hashed", "x")] {
        assert_eq!(bed.login(user, password).await.1.unwrap().error().0, "28P01", "{user}");
    }
}

#[tokio::test]
async fn an_upstream_without_a_password_admits_nobody_by_scram() {
    let mut project = project("*", "postgres");
    project.upstream.password = None;
    let bed = Bed::with(settings(vec![project]));
    assert_eq!(bed.login("postgres", "").await.1.unwrap().error().0, "28P01");
}

#[tokio::test]
async fn trust_is_for_this_machine() {
    let bed = Bed::trusting();
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    let login = admitted(greeting.await.unwrap());
    assert_eq!(&login.greeting[..], b"R\0\0\0\x08\0\0\0\0");
    assert_eq!(login.credential, Credential::Password(Password::new(PASSWORD)));

    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0whoever\0")).await.unwrap();
    assert_eq!(admitted(greeting.await.unwrap()).credential, Credential::None);

    let (mut client, greeting) = bed.knock_from(remote());
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    assert_eq!(read(&mut client).await.unwrap().error().0, "28000");
    failed(greeting.await.unwrap());
}

#[tokio::test]
async fn unknown_projects_are_told_after_the_exchange_and_to_this_machine() {
    let bed = Bed::with(settings(vec![project("one", "postgres")]));
    let (_, told) = bed.login("postgres.two", PASSWORD).await;
    assert_eq!(told.unwrap().error(), ("28000".into(), "project \"two\" does not exist".into()));
    // From elsewhere it is a wrong password, after all the same messages.
    for user in ["postgres.two", "postgres.one"] {
        let (mut client, greeting) = bed.knock_from(remote());
        client.write_all(&startup_packet(0, &format!("user\0{user}\0"))).await.unwrap();
        assert!(scram(&mut client, "wrong").await.is_ok(), "the exchange goes to its end");
        let told = read(&mut client).await.unwrap().error();
        assert_eq!(told, ("28P01".into(), "password authentication failed for user \"postgres\"".into()), "{user}");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn addresses_and_tls_are_checked_before_anything_is_asked() {
    let mut project = project("*", "postgres");
    project.logins.allow = vec![crate::config::Network::parse("10.1.0.0/16").unwrap()];
    project.logins.require_tls = true;
    let bed = Bed::with(settings(vec![project]));
    for (peer, message) in [
        (Peer::Tcp("10.2.0.1:1".parse().unwrap()), "connections from 10.2.0.1 are not allowed"),
        (remote(), "SSL connection is required"),
    ] {
        let (mut client, greeting) = bed.knock_from(peer);
        client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
        assert_eq!(read(&mut client).await.unwrap().error(), ("28000".into(), message.into()));
        failed(greeting.await.unwrap());
    }
    admitted(bed.login("postgres", PASSWORD).await.0);
}

// ---- Before the startup packet

#[tokio::test]
async fn nothing_said_is_nothing_wrong() {
    let bed = Bed::new();
    let (client, greeting) = bed.knock();
    drop(client);
    gone(greeting.await.unwrap());
    // psql without a password leaves once it is asked for one.
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    read(&mut client).await.unwrap();
    drop(client);
    gone(greeting.await.unwrap());
}

#[tokio::test]
async fn trap_44_startup_packets_of_impossible_length() {
    let bed = Bed::new();
    for head in [b"\0\0\0\x07\0\x03\0\0", b"\0\0\x27\x15\0\x03\0\0", b"\x40\0\0\0\0\x03\0\0", b"GET / HT"] {
        let (mut client, greeting) = bed.knock();
        client.write_all(head).await.unwrap();
        let told = read(&mut client).await.unwrap().error();
        assert_eq!(told, ("08P01".into(), "invalid length of startup packet".into()));
        failed(greeting.await.unwrap());
    }
}

/// The state decides what may be said: no user is known yet.
#[tokio::test]
async fn cve_2015_4054_a_password_before_the_startup_packet() {
    let bed = Bed::new();
    for said in [&b"p\0\0\0\x08abc\0"[..], b"p\0\0\0\x16SCRAM-SHA-256\0\0\0\0\0"] {
        let (mut client, greeting) = bed.knock();
        client.write_all(said).await.unwrap();
        assert_eq!(read(&mut client).await.unwrap().error().0, "08P01");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn trap_44_a_header_that_claims_a_gigabyte_moves_no_memory() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    read(&mut client).await.unwrap();
    let before = resident();
    client.write_all(b"p\x40\0\0\0").await.unwrap();
    let told = read(&mut client).await.unwrap().error();
    assert_eq!(told, ("08P01".into(), "invalid message length".into()));
    failed(greeting.await.unwrap());
    // Other tests run beside this one; none of them takes a quarter of what was claimed.
    assert!(resident().saturating_sub(before) < 256 << 20);
}

#[tokio::test]
async fn trap_40_a_cancel_request_is_read_no_further_and_not_answered() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    write_request(&mut client, |out| {
        request::cancel(out, 12, &[7; 32]);
        out.extend_from_slice(b"whatever a driver sends behind it");
    })
    .await;
    match greeting.await.unwrap() {
        Ok(Arrival::Cancel(request, _)) => assert_eq!((request.pid, request.key), (12, vec![7; 32])),
        other => panic!("{other:?}"),
    }
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn what_a_client_says_too_early_is_kept_for_its_session() {
    let bed = Bed::trusting();
    for requests in [&[][..], &SSL_REQUEST, &GSS_REQUEST] {
        let (mut client, greeting) = bed.knock();
        let startup = startup_packet(0, "user\0postgres\0");
        client.write_all(&[requests, &startup, b"Q\0\0\0\x05\0X\0\0"].concat()).await.unwrap();
        assert_eq!(admitted(greeting.await.unwrap()).early, b"Q\0\0\0\x05\0X\0\0");
    }
}

#[tokio::test]
async fn ssl_and_gss_are_denied_once_each_in_any_order() {
    let bed = Bed::trusting();
    for requests in [[SSL_REQUEST, GSS_REQUEST], [GSS_REQUEST, SSL_REQUEST]] {
        let (mut client, greeting) = bed.knock();
        for request in requests {
            client.write_all(&request).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'N');
        }
        client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
        admitted(greeting.await.unwrap());

        let (mut client, greeting) = bed.knock();
        client.write_all(&[requests[0], requests[0]].concat()).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'N');
        let (state, message) = read(&mut client).await.unwrap().error();
        assert!(state == "0A000" && message.starts_with("unsupported frontend protocol 1234.56"), "{message}");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn trap_61_protocol_2_is_told_so() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(&[&b"\0\0\x01\x28\0\x02\0\0"[..], &[0; 288]].concat()).await.unwrap();
    let told = read(&mut client).await.unwrap().error();
    assert_eq!(told, ("0A000".into(), "unsupported frontend protocol 2.0: server supports 3.0 to 3.2".into()));
    failed(greeting.await.unwrap());
}

#[tokio::test]
async fn trap_50_and_53_a_bad_startup_packet_gets_postgresqls_answer() {
    let bed = Bed::new();
    for (pairs, state) in [
        ("database\0x\0", "28000"),
        ("user\0postgres\0options\0-x\0", "42601"),
        ("user\0postgres\0replication\0maybe\0", "22023"),
        ("user\0postgres", "08P01"),
    ] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&startup_packet(0, pairs)).await.unwrap();
        assert_eq!(read(&mut client).await.unwrap().error().0, state, "{pairs:?}");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn trap_52_and_54_a_version_is_negotiated_once_and_before_the_password_is_looked_up() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(9999, "user\0postgres\0_pq_.x\0y\0")).await.unwrap();
    let negotiation = read(&mut client).await.unwrap();
    assert_eq!((negotiation.0, &negotiation.1[..]), (b'v', &b"\0\x03\0\x02\0\0\0\x01_pq_.x\0"[..]));
    let _signature = scram(&mut client, PASSWORD).await.expect("the next message is the offer, and no second negotiation");
    let login = admitted(greeting.await.unwrap());
    assert_eq!((login.who.startup.minor(), login.greeting[0]), (2, b'R'));

    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(2, "user\0postgres\0")).await.unwrap();
    assert!(scram(&mut client, PASSWORD).await.is_ok());
    assert_eq!(admitted(greeting.await.unwrap()).who.startup.minor(), 2);
}

#[tokio::test]
async fn trap_55_a_login_in_single_bytes() {
    let bed = Bed::trusting();
    let (mut client, greeting) = bed.knock();
    for byte in [&GSS_REQUEST[..], &startup_packet(0, "user\0postgres\0options\0-c a=b\0")].concat() {
        client.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(admitted(greeting.await.unwrap()).who.startup.settings().collect::<Vec<_>>(), [("a", "b")]);
}

#[tokio::test]
async fn trap_55_half_a_packet_is_named() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0postgres\0")[..12]).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read(&mut client).await.unwrap().error().1, "incomplete startup packet");
    failed(greeting.await.unwrap());
}

// ---- The exchange

#[tokio::test]
async fn trap_63_and_cve_2026_6664_broken_sasl_messages() {
    let bed = Bed::new();
    let plus = {
        let mut out = BytesMut::new();
        request::sasl_initial_response(&mut out, "SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=abc");
        out.to_vec()
    };
    let bound = {
        let mut out = BytesMut::new();
        request::sasl_initial_response(&mut out, "SCRAM-SHA-256", b"p=tls-unique,,n=,r=abc");
        out.to_vec()
    };
    for message in [
        &b"p\0\0\0\x04"[..],
        b"p\0\0\0\x03",
        b"p\xff\xff\xff\xff",
        b"p\0\0\0\x07abc",
        b"p\0\0\0\x0eSCRAM\0\0\0\0\x7f",
        b"X\0\0\0\x04",
        b"Q\0\0\0\x05\0",
        &plus,
        &bound,
    ] {
        let (mut client, greeting) = bed.knock();
        client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
        read(&mut client).await.unwrap();
        client.write_all(message).await.unwrap();
        assert_eq!(read(&mut client).await.unwrap().error().0, "08P01", "{message:?}");
        failed(greeting.await.unwrap());
    }
}

#[tokio::test]
async fn a_client_may_wait_to_be_asked_for_its_first_message() {
    let bed = Bed::new();
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, "user\0postgres\0")).await.unwrap();
    read(&mut client).await.unwrap();
    client.write_all(b"p\0\0\0\x16SCRAM-SHA-256\0\xff\xff\xff\xff").await.unwrap();
    assert_eq!(Authentication::parse(&read(&mut client).await.unwrap().1), Some(Authentication::SaslContinue(b"")));
    write_request(&mut client, |out| request::sasl_response(out, b"n,,n=,r=abc")).await;
    let message = read(&mut client).await.unwrap();
    assert!(matches!(Authentication::parse(&message.1), Some(Authentication::SaslContinue(text)) if text.starts_with(b"r=abc")));
    drop(client);
    gone(greeting.await.unwrap());
    assert!(SaslInitialResponse::parse(b"SCRAM-SHA-256\0\xff\xff\xff\xff").unwrap().data.is_none());
}

#[tokio::test(start_paused = true)]
async fn trap_62_the_time_to_log_in_covers_every_step() {
    let mut settings = settings(vec![project("*", "postgres")]);
    settings.timeouts.client_login = Duration::from_millis(300);
    let bed = Bed::with(settings).with_tls();
    for said in [&b""[..], &SSL_REQUEST[..4], &SSL_REQUEST, &startup_packet(0, "user\0postgres\0"), b"\x16\x03\x01\0\x05\x01\0\0"]
    {
        let (mut client, greeting) = bed.knock();
        client.write_all(said).await.unwrap();
        assert!(matches!(greeting.await.unwrap(), Ok(Arrival::Late)), "{said:?}");
        // The connection is closed with it. Whoever had said who it is has been told.
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        let told = String::from_utf8_lossy(&heard).contains("57014\0Mcanceling authentication due to timeout");
        assert_eq!(told, said.starts_with(b"\0\0\0\x17"), "{said:?} {heard:?}");
    }
}

#[tokio::test]
async fn a_startup_packet_of_the_longest_kind() {
    let bed = Bed::trusting();
    let pairs = "user\0postgres\0application_name\0";
    let name = "x".repeat(10_004 - HEAD_BYTES - pairs.len() - 2);
    let (mut client, greeting) = bed.knock();
    client.write_all(&startup_packet(0, &format!("{pairs}{name}\0"))).await.unwrap();
    assert_eq!(admitted(greeting.await.unwrap()).who.startup.parameters[0].1, name);
}
