//! LISTEN through a connection that many clients share: what both ends have to say to each other, and how it is cut.
//!
//! PostgreSQL's queue of notifications is one order of commits per database, and every listening connection reads it in that
//! order. So a notification of our own in that queue is a place at which two connections can be cut exactly. A client's
//! channels go from its server to the shared listener at such a [`Marker`]: what its server hears before it is the client's,
//! what the listener hears behind it; and back in the same way. As notifications are sent by COMMIT and by nothing else, the way
//! back is taken by the client's own transaction, and not taken when that is rolled back.

mod hub;

pub use hub::{Heard, Hub};

use std::sync::Arc;

use super::frame::cstr;

/// Channels of one client that are moved; a client with more keeps its server.
pub const CHANNELS_MAX: usize = 1000;
/// In front of the channel that carries the markers; behind it stand 32 random digits. Not shown to clients.
const PRIVATE_PREFIX: &str = "sidepool_listener_";

/// The body of a NotificationResponse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    pub channel: &'a [u8],
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let (channel, rest) = cstr(body.get(4..)?)?;
        let (payload, rest) = cstr(rest)?;
        rest.is_empty().then_some(Self { channel, payload })
    }
}

/// A place in the queue, by the number of the subscription that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// From here on the listener hears for the client.
    Away(u64),
    /// From here on the client's server does.
    Home(u64),
}

impl Marker {
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (kind, id) = payload.split_first()?;
        let id = std::str::from_utf8(id).ok()?.parse().ok()?;
        match kind {
            b'a' => Some(Self::Away(id)),
            b'h' => Some(Self::Home(id)),
            _ => None,
        }
    }
}

/// Letters and digits only: no quoting.
impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(id) => write!(f, "a{id}"),
            Self::Home(id) => write!(f, "h{id}"),
        }
    }
}

/// The channel for the markers of one pool, from 16 random bytes: nobody else is to write on it.
pub fn private_channel(random: [u8; 16]) -> Arc<str> {
    format!("{PRIVATE_PREFIX}{:032x}", u128::from_be_bytes(random)).into()
}

/// Whether a channel has a name like those; clients may name theirs as they like.
pub fn is_like_private(channel: &[u8]) -> bool {
    channel.strip_prefix(PRIVATE_PREFIX.as_bytes()).is_some_and(|rest| rest.len() == 32)
}

/// As an identifier in a text.
pub fn write_identifier(name: &[u8], sql: &mut Vec<u8>) {
    sql.push(b'"');
    for &byte in name {
        sql.extend(std::iter::repeat_n(byte, if byte == b'"' { 2 } else { 1 }));
    }
    sql.push(b'"');
}

/// `LISTEN "name";` or `UNLISTEN "name";`
pub(super) fn write_statement(verb: &str, name: &[u8], sql: &mut Vec<u8>) {
    sql.extend_from_slice(verb.as_bytes());
    sql.push(b' ');
    write_identifier(name, sql);
    sql.push(b';');
}

/// Channels of one client at the shared listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The number of the subscription.
    pub id: u64,
    /// Sorted.
    pub names: Arc<[Box<[u8]>]>,
    /// The pool's own channel.
    pub private: Arc<str>,
}

impl Moved {
    pub fn has(&self, channel: &[u8]) -> bool {
        self.names.binary_search_by(|name| (**name).cmp(channel)).is_ok()
    }

    /// What makes a server hear a marker behind all that it hears of its client's channels.
    pub(super) fn write_departure(&self, listen: &mut Vec<u8>, notify: &mut Vec<u8>) {
        self.write_rejoin(listen);
        notify.extend_from_slice(format!("NOTIFY {},'{}'", self.private, Marker::Away(self.id)).as_bytes());
    }

    /// What makes a server hear markers.
    pub(super) fn write_rejoin(&self, sql: &mut Vec<u8>) {
        write_statement("LISTEN", self.private.as_bytes(), sql);
    }

    /// What makes a server listen in the place of the listener, in whatever transaction this is run.
    pub(super) fn write_return(&self, sql: &mut Vec<u8>) {
        self.names.iter().for_each(|name| write_statement("LISTEN", name, sql));
        self.write_rejoin(sql);
        sql.extend_from_slice(format!("NOTIFY {},'{}';", self.private, Marker::Home(self.id)).as_bytes());
    }

    /// The same inside a transaction that others' statements belong to, where it may have been run before: then what the
    /// client has unlistened since is not to be listened to again. Whether it was run, and not rolled back since, a setting that is
    /// local to the transaction knows; savepoints undo it with all else.
    pub(super) fn write_return_once(&self, sql: &mut Vec<u8>) {
        let mut body = format!(
            "BEGIN IF pg_catalog.current_setting('sidepool.home',true) IS DISTINCT FROM '{id}' THEN \
             PERFORM pg_catalog.set_config('sidepool.home','{id}',true);",
            id = self.id
        )
        .into_bytes();
        self.write_return(&mut body);
        body.extend_from_slice(b"END IF;END");
        sql.extend_from_slice(b"DO E'");
        for &byte in &body {
            sql.extend(std::iter::repeat_n(byte, if matches!(byte, b'\'' | b'\\') { 2 } else { 1 }));
        }
        sql.push(b'\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notifications_are_read_to_the_byte() {
        let read = |body: &'static [u8]| Notification::read(body).map(|n| (n.channel, n.payload));
        assert_eq!(read(b"\0\0\0\x07a b\0it's\0"), Some((&b"a b"[..], &b"it's"[..])));
        assert_eq!(read(b"\0\0\0\x07a\0\0"), Some((&b"a"[..], &b""[..])));
        for bad in [&b"\0\0"[..], b"\0\0\0\x07a\0", b"\0\0\0\x07a\0b\0c"] {
            assert_eq!(Notification::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn markers_read_as_they_are_written() {
        for marker in [Marker::Away(0), Marker::Home(u64::MAX)] {
            assert_eq!(Marker::read(marker.to_string().as_bytes()), Some(marker));
        }
        for bad in [&b""[..], b"a", b"x1", b"a1 ", b"a\xff", b"h99999999999999999999999"] {
            assert_eq!(Marker::read(bad), None);
        }
    }

    #[test]
    fn the_private_channel_fits_a_name_and_is_known_again() {
        let name = private_channel([0xab; 16]);
        assert!(name.len() < 64 && is_like_private(name.as_bytes()), "{name}");
        assert!(!is_like_private(b"sidepool_listener_") && !is_like_private(b"jobs"));
    }

    #[test]
    fn any_name_is_quoted_where_it_stands() {
        let names: Arc<[Box<[u8]>]> = Arc::new([(*b"a\"b\\'").into()]);
        let moved = Moved { id: 3, names, private: "p".into() };
        let (mut plain, mut once) = (Vec::new(), Vec::new());
        moved.write_return(&mut plain);
        assert_eq!(String::from_utf8(plain).unwrap(), r#"LISTEN "a""b\'";LISTEN "p";NOTIFY p,'h3';"#);
        moved.write_return_once(&mut once);
        let once = String::from_utf8(once).unwrap();
        assert!(once.contains(r#"LISTEN "a""b\\''";LISTEN "p";NOTIFY p,''h3'';END IF"#), "{once}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(notification) = Notification::read(&body) {
                let _ = Marker::read(notification.payload);
            }
        }
    }
}
