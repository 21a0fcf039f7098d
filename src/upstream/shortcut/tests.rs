//! What is remembered of a socket, without one. With real servers: `tests/upstream_socket.rs`.

use super::*;
use crate::config::{UpstreamSocket, url};

const VERDICT: Duration = Duration::from_secs(600);

fn shortcut(of: &str, socket: UpstreamSocket) -> Shortcut {
    let (upstream, _) = url::parse(of).unwrap();
    Shortcut::of(&Upstream { socket, ..upstream })
}

#[test]
fn it_is_sought_where_the_upstream_is_local_and_tls_is_not_asked_for() {
    for (url, is_sought) in [
        ("postgres://u@localhost/d", true),
        ("postgres://u@127.0.0.1:7000/d?sslmode=disable", true),
        ("postgres://u@[::1]/d?sslmode=allow", true),
        ("postgres://u@db.example.com/d", false),
        ("postgres://u@%2Frun%2Fpostgresql/d", false),
        ("postgres://u@localhost/d?sslmode=require", false),
        ("postgres://u@localhost/d?sslmode=verify-full", false),
        ("postgres://u@localhost/d?channel_binding=require", false),
        ("postgres://u@localhost/d?sslcert=c.pem&sslkey=k.pem", false),
    ] {
        assert_eq!(shortcut(url, UpstreamSocket::Auto).is_sought(), is_sought, "{url}");
        assert!(!shortcut(url, UpstreamSocket::Off).is_sought(), "{url}");
    }
    let named = shortcut("postgres://u@localhost:7000/d", UpstreamSocket::In("/srv/pg".into()));
    assert_eq!(named.sought, [PathBuf::from("/srv/pg/.s.PGSQL.7000")]);
}

#[test]
fn what_is_barred_is_tried_again_when_its_time_is_over() {
    let (mut state, now) = (State::default(), Instant::now());
    assert!(state.may_try("ann", now));
    state.take("ann", Consequence::Bar(VERDICT), now);
    assert!(!state.may_try("ann", now) && !state.may_try("bob", now));
    assert!(state.may_try("ann", now + VERDICT));
    state.take("ann", Consequence::Once, now);
    assert!(!state.may_try("ann", now), "another reason takes nothing back");
}

#[test]
fn who_is_refused_keeps_nobody_else_off_and_they_are_bounded() {
    let (mut state, now) = (State::default(), Instant::now());
    state.take("ann", Consequence::AvoidFor(VERDICT), now);
    assert!(!state.may_try("ann", now) && state.may_try("bob", now) && state.may_try("ann", now + VERDICT));
    for user in 0..2 * AVOIDED_USERS_MAX {
        state.take(&user.to_string(), Consequence::AvoidFor(VERDICT), now);
    }
    assert_eq!(state.avoided.len(), AVOIDED_USERS_MAX);
    assert!(!state.may_try("bob", now), "in doubt over TCP");
    let later = now + VERDICT;
    assert!(state.may_try("bob", later));
    state.take("bob", Consequence::AvoidFor(VERDICT), later);
    assert_eq!(state.avoided.len(), 1, "those of before are forgotten");
}

#[test]
fn a_wrong_password_is_the_answer_unless_it_may_be_another_one_over_tcp() {
    use crate::upstream::ServerError;
    let refused = |state: &str| ConnectError::Refused(ServerError::new(format!("SFATAL\0C{state}\0Mno\0\0").into_bytes().into()));
    for (state, method, is_answer) in [
        ("28P01", AuthMethod::ScramSha256, true),
        ("28P01", AuthMethod::CleartextPassword, false),
        ("28000", AuthMethod::ScramSha256, false),
        ("3D000", AuthMethod::Trust, true),
        ("53300", AuthMethod::Trust, true),
    ] {
        assert_eq!(Declined::is_answer(&refused(state), method), is_answer, "{state} {method:?}");
    }
    assert!(!Declined::is_answer(&ConnectError::protocol("x"), AuthMethod::Trust));
}

/// With nobody on TCP: it can have gone nowhere else.
#[tokio::test]
async fn trap_41_a_cancel_goes_to_the_socket_that_the_connection_went_to() {
    use crate::net::tls::TlsContext;
    use crate::upstream::{BackendKey, cancel};
    use tokio::io::AsyncReadExt;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(".s.PGSQL.1");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (upstream, _) = url::parse("postgres://u@127.0.0.1:1/d?sslmode=disable").unwrap();
    let tls = TlsContext::load(&upstream.tls).unwrap();
    let key = BackendKey { pid: 7, secret: bytes::Bytes::from_static(b"four"), address: Some(Address::Unix(path)) };
    let heard = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = [0; 16];
        stream.read_exact(&mut packet).await.unwrap();
        packet
    };
    let (sent, packet) = tokio::join!(cancel(&upstream, &tls, &key), heard);
    sent.unwrap();
    assert_eq!(packet, *b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07four");
}
