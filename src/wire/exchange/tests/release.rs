//! When a server may change hands, and what order replies keep (traps 2, 3, 5–8).

use super::notation::{from_client, from_server, show_client, show_server};
use super::rig::in_pieces;
use crate::wire::exchange::Broken;

#[test]
fn what_came_before_a_broken_message_still_leaves() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let mut sent = Vec::new();
        let bytes = [from_client("Q(select 1)"), b"?\0\0\0\x04".to_vec()].concat();
        // Whatever was counted as owed was also sent: the server can be drained.
        let error = rig.ask_bytes_into(a, &bytes, &mut sent).unwrap_err();
        assert_eq!(error.to_string(), "FATAL: invalid frontend message type 63 (SQLSTATE 08P01)");
        assert_eq!(show_client(&sent), "Q(select 1)");
        rig.answer_through(a, "T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn what_came_before_a_broken_reply_still_reaches_the_client() {
    in_pieces(|rig| {
        let (a, _) = rig.pair();
        rig.ask_through(a, "Q(select 1)");
        let mut heard = Vec::new();
        let bytes = from_server("T D(1) 1");
        assert_eq!(rig.answer_bytes_into(a, &bytes, &mut heard), Err(Broken::Unexpected(b'1')));
        assert_eq!(show_server(&heard), "T D(1)");
    });
}
