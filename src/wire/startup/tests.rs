use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::wire::request;

fn frame(code: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = ((HEAD_BYTES + body.len()) as u32).to_be_bytes().to_vec();
    frame.extend(code.to_be_bytes());
    frame.extend(body);
    frame
}

fn startup(minor: u16, body: &[u8]) -> Result<Startup, PgError> {
    match FirstPacket::parse(&frame(u32::from(MAJOR) << 16 | u32::from(minor), body))? {
        FirstPacket::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

fn message(result: Result<impl std::fmt::Debug, PgError>) -> (String, SqlState) {
    let error = result.unwrap_err();
    (error.message.into_owned(), error.code)
}

#[test]
fn trap_44_lengths_no_packet_may_have() {
    let head = |length: u32| {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head
    };
    assert_eq!(frame_bytes(head(8)), Ok(8));
    assert_eq!(frame_bytes(head(10_004)), Ok(10_004));
    for length in [0, 4, 7, 10_005, 1 << 30, u32::from_be_bytes(*b"GET "), u32::MAX] {
        assert_eq!(message(frame_bytes(head(length))), ("invalid length of startup packet".into(), SqlState::PROTOCOL_VIOLATION));
    }
}

#[test]
fn the_requests_that_carry_nothing() {
    assert_eq!(FirstPacket::parse(&frame(SSL_CODE, b"")), Ok(FirstPacket::Ssl));
    assert_eq!(FirstPacket::parse(&request::SSL_REQUEST), Ok(FirstPacket::Ssl));
    assert_eq!(FirstPacket::parse(&frame(GSS_CODE, b"")), Ok(FirstPacket::Gss));
    assert!(FirstPacket::parse(&frame(SSL_CODE, b"smuggled")).is_err());
}

#[test]
fn cancel_keys_of_every_length() {
    for length in [4, 32, 256] {
        let key = vec![7; length];
        let mut packet = BytesMut::new();
        request::cancel(&mut packet, -3, &key);
        assert_eq!(FirstPacket::parse(&packet), Ok(FirstPacket::Cancel(Some(CancelRequest { pid: -3, key }))));
    }
    for body in [&[0; 3][..], &[0; 4], &[0; 7], &[0; 4 + 257]] {
        assert_eq!(FirstPacket::parse(&frame(CANCEL_CODE, body)), Ok(FirstPacket::Cancel(None)), "{}", body.len());
    }
    assert!(!format!("{:?}", CancelRequest { pid: 1, key: vec![99; 4] }).contains("99"));
}

#[test]
fn trap_50_the_special_names_and_the_rest_in_order() {
    let parsed =
        startup(0, b"TimeZone\0UTC\0user\0ann\0application_name\0psql\0database\0shop\0options\0-c a=1\0DateStyle\0ISO\0\0")
            .unwrap();
    assert_eq!((parsed.user.as_str(), parsed.database.as_deref()), ("ann", Some("shop")));
    let settings: Vec<_> = parsed.settings().collect();
    assert_eq!(settings, [("a", "1"), ("TimeZone", "UTC"), ("application_name", "psql"), ("DateStyle", "ISO")]);
}

#[test]
fn trap_50_an_empty_database_is_none_and_an_empty_user_an_error() {
    assert_eq!(startup(0, b"user\0ann\0database\0\0\0").unwrap().database, None);
    for body in [&b"user\0\0\0"[..], b"database\0x\0\0", b"\0", b"user\0ann\0user\0\0\0"] {
        let told = message(startup(0, body));
        assert_eq!(told, ("no PostgreSQL user name specified in startup packet".into(), SqlState::INVALID_AUTHORIZATION));
    }
}

#[test]
fn trap_50_the_terminator_is_the_last_byte() {
    for body in [&b""[..], b"user\0ann\0", b"user\0ann", b"user\0\0ann\0", b"user\0ann\0\0x", b"user\0ann\0\0\0", b"user\0"] {
        let told = message(startup(0, body));
        assert_eq!(told.0, "invalid startup packet layout: expected terminator as last byte", "{body:?}");
    }
}

#[test]
fn of_a_name_given_twice_the_last_stays_where_it_stood() {
    let parsed = startup(0, b"user\0x\0a\x001\0b\x002\0A\x003\0user\0ann\0\0").unwrap();
    assert_eq!(parsed.user, "ann");
    assert_eq!(parsed.settings().collect::<Vec<_>>(), [("b", "2"), ("A", "3")]);
}

#[test]
fn trap_52_versions_are_negotiated_down_only_where_needed() {
    for (asked, spoken, told) in [(0, 0, false), (1, 1, false), (2, 2, false), (3, 2, true), (9999, 2, true)] {
        let parsed = startup(asked, b"user\0ann\0\0").unwrap();
        assert_eq!((parsed.minor(), parsed.wants_negotiation()), (spoken, told), "3.{asked}");
    }
    let parsed = startup(0, b"user\0ann\0_pq_.a\0on\0_pq_.b\0\0\0").unwrap();
    assert!(parsed.wants_negotiation());
    assert_eq!(parsed.unknown_protocol_options, ["_pq_.a", "_pq_.b"]);
    assert_eq!(parsed.settings().count(), 0);
}

#[test]
fn trap_61_other_protocols_are_named() {
    for (code, version) in [(0x0002_0000, "2.0"), (0x0004_0001, "4.1"), (0, "0.0"), (0x0001_0000, "1.0")] {
        let told = message(FirstPacket::parse(&frame(code, b"anything")));
        let text = format!("unsupported frontend protocol {version}: server supports 3.0 to 3.2");
        assert_eq!(told, (text, SqlState::FEATURE_NOT_SUPPORTED));
    }
}

#[test]
fn replication_is_a_boolean_or_a_database() {
    let parsed = |value: &str| startup(0, format!("user\0ann\0replication\0{value}\0\0").as_bytes()).map(|s| s.replication);
    assert_eq!(parsed("database"), Ok(Replication::Database));
    for value in ["true", "T", "on", "yes", "1"] {
        assert_eq!(parsed(value), Ok(Replication::Physical), "{value}");
    }
    for value in ["false", "f", "of", "no", "0"] {
        assert_eq!(parsed(value), Ok(Replication::Off), "{value}");
    }
    for value in ["", "o", "truely", "Database", "2"] {
        assert_eq!(message(parsed(value)).1, SqlState::INVALID_PARAMETER_VALUE, "{value}");
    }
}

#[test]
fn text_in_other_encodings() {
    assert_eq!(message(startup(0, b"user\0caf\xe9\0\0")).1, SqlState::PROTOCOL_VIOLATION);
    let parsed = startup(0, b"user\0ann\0application_name\0caf\xe9\0\0").unwrap();
    assert_eq!(parsed.parameters, [("application_name".to_owned(), "caf?".to_owned())]);
}

proptest! {
    #[test]
    fn never_panics(code in prop_oneof![Just(CANCEL_CODE), Just(SSL_CODE), Just(0x0003_0000), any::<u32>()], body: Vec<u8>) {
        let _ = FirstPacket::parse(&frame(code, &body));
        let _ = FirstPacket::parse(&body);
    }

    #[test]
    fn what_we_send_we_can_read(
        user in "[^\0]{1,20}",
        database in "[^\0]{1,20}",
        settings in prop::collection::btree_map("[a-z][a-z_]{8,12}", "[^\0]{0,20}", 0..8),
        minor in 0u16..5,
    ) {
        prop_assume!(!settings.contains_key("application_name") && !settings.contains_key("replication"));
        let mut packet = BytesMut::new();
        let named = [("user", user.as_str()), ("database", &database)];
        request::startup(&mut packet, minor, named.into_iter().chain(settings.iter().map(|(n, v)| (n.as_str(), v.as_str())))).unwrap();
        let FirstPacket::Startup(parsed) = FirstPacket::parse(&packet).unwrap() else { panic!("no startup") };
        prop_assert_eq!((&parsed.user, parsed.database.as_ref(), parsed.requested_minor), (&user, Some(&database), minor));
        prop_assert_eq!(parsed.parameters, settings.into_iter().collect::<Vec<_>>());
    }
}
