//! A client's channels leave its server for the listener, and come back.

use std::sync::Arc;

use super::notation::{from_server, show_client};
use super::rig::{Rig, in_pieces};
use crate::wire::exchange::{Broken, Place};
use crate::wire::listen::{Moved, private_channel};
use crate::wire::sql::Leaves;

/// As many digits as the real one has.
fn private() -> Arc<str> {
    private_channel([0x11; 16])
}

/// Our own words, with `p` for the name of the private channel.
fn short(text: &str) -> String {
    text.replace(&*private(), "p")
}

/// A server's words, the other way round.
fn long(text: &str) -> String {
    text.replace("A(p,", &format!("A({},", private()))
}

impl Rig {
    /// A client that listens to `x`, and its server, which was asked.
    fn listening(&mut self) -> (usize, usize) {
        let (a, s) = self.pair();
        self.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        self.probe(a, s);
        assert!(self.probe_answered(a, &[["", "", ""], ["n", "x", ""]]).is_empty());
        (a, s)
    }

    fn depart(&mut self, client: usize, server: usize) -> String {
        let (side, server) = self.sides(client, server);
        let names = server.movable(side).expect("nothing else is there").into();
        let mut sent = Vec::new();
        server.depart(side, Moved { id: 1, names, private: private() }, &mut sent);
        short(&show_client(&sent))
    }

    fn part(&mut self, client: usize, server: usize) -> String {
        let (side, server) = self.sides(client, server);
        let mut sent = Vec::new();
        server.part(side, &mut sent);
        show_client(&sent)
    }

    /// A client that listens to `x` by the listener, and its server of before.
    fn away(&mut self) -> (usize, usize) {
        let (a, s) = self.listening();
        self.depart(a, s);
        self.answer(a, &long("C(LISTEN) Z(I) C(NOTIFY) A(p,a1) Z(I)"), "");
        self.part(a, s);
        self.answer(a, "C(UNLISTEN) Z(I)", "");
        assert_eq!(self.client_side(a).place(), Place::Away);
        (a, s)
    }

    /// What waits reaches its server behind this.
    #[track_caller]
    fn go_on_long(&mut self, client: usize, to_server: &str) {
        self.go_on(client, &to_server.replace("\"p\"", &format!("\"{}\"", private())), "");
    }

    /// What the client says reaches its server behind this.
    #[track_caller]
    fn ask_behind(&mut self, client: usize, says: &str, to_server: &str) {
        let (sent, _) = self.ask_bytes(client, &super::notation::from_client(says)).expect("a client in order");
        assert_eq!(short(&show_client(&sent)), to_server);
    }
}

#[test]
fn up_to_the_marker_the_server_is_heard_and_the_listener_from_there() {
    in_pieces(|rig| {
        let (a, s) = rig.listening();
        assert_eq!(rig.depart(a, s), "Q(LISTEN \"p\";) Q(NOTIFY p,'a1')");
        // Whatever it says waits: the server is ours for that moment.
        rig.ask(a, "Q(select 1)", "", "");
        rig.answer(a, &long("A(x,1) C(LISTEN) Z(I) A(x,2) C(NOTIFY) A(x,3) A(p,a7) A(p,a1) A(x,4)"), "A(x,1) A(x,2) A(x,3)");
        assert_eq!(rig.client_side(a).place(), Place::Left);
        assert_eq!(rig.part(a, s), "Q(UNLISTEN *)");
        rig.go_on(a, "", "");
        rig.answer(a, "Z(I) A(x,5) C(UNLISTEN) Z(I)", "");
        assert_eq!(rig.client_side(a).place(), Place::Away);
        assert!(rig.server_side(s).held_for(rig.client_side(a)).is_nothing(), "it is free");
        rig.go_on(a, "Q(select 1)", "");
        rig.answer_through(a, "T D(1) C(SELECT 1) Z(I)");
        rig.is_idle(s);
    });
}

#[test]
fn a_marker_that_cannot_be_sent_moves_nothing() {
    in_pieces(|rig| {
        let (a, s) = rig.listening();
        rig.depart(a, s);
        rig.answer(a, "C(LISTEN) Z(I) A(x,1) E(54000 too many notifications in the NOTIFY queue) Z(I)", "A(x,1)");
        assert_eq!(rig.client_side(a).place(), Place::Here);
        rig.answer(a, &long("A(p,a2) A(x,2)"), "A(x,2)");
        assert_eq!(rig.server_side(s).held_for(rig.client_side(a)), Leaves::LISTEN);
        // Nobody is to see our channel among his.
        assert!(rig.server_side(s).hears_markers());
        let mut sent = Vec::new();
        rig.server_side_mut(s).hush(&mut sent);
        assert_eq!(short(&show_client(&sent)), "Q(UNLISTEN \"p\";)");
        rig.answer(a, "C(UNLISTEN) Z(I)", "");
        assert!(!rig.server_side(s).hears_markers());
    });
}

/// Who says no to that hears them still, and the next client would be shown whose channel it is.
#[test]
fn a_server_that_would_not_be_hushed_hears_markers_still() {
    let hush = |rig: &mut Rig, s| {
        let mut sent = Vec::new();
        rig.server_side_mut(s).hush(&mut sent);
        assert_eq!(short(&show_client(&sent)), "Q(UNLISTEN \"p\";)");
    };
    in_pieces(|rig| {
        let (a, s) = rig.listening();
        rig.depart(a, s);
        rig.answer(a, "C(LISTEN) Z(I) E(54000 too many notifications in the NOTIFY queue) Z(I)", "");
        for _ in 0..2 {
            hush(rig, s);
            rig.answer(a, "E(57014 canceling statement) Z(I)", "");
            assert!(rig.server_side(s).hears_markers());
            rig.is_idle(s);
        }
        hush(rig, s);
        assert_eq!(rig.answer_bytes(a, &from_server("E(57014 canceling statement) Z(I)")), Err(Broken::Unclean), "not for ever");
    });
    in_pieces(|rig| {
        let (a, s) = rig.away();
        rig.ask_bytes(a, &super::notation::from_client("Q(unlisten *)")).expect("in order");
        rig.answer(a, &long("C(SET) C(SET) C(LISTEN) C(LISTEN) C(NOTIFY) A(p,h1) Z(I)"), "");
        rig.returned(a);
        let no = "E(57014 canceling statement) Z(I)";
        rig.answer(a, &format!("{no} C(UNLISTEN) Z(I)"), "C(UNLISTEN) Z(I)");
        rig.probe(a, s);
        rig.probe_answered(a, &[["", "", ""], ["n", &private(), ""]]);
        assert!(rig.server_side(s).is_free_of(rig.client_side(a)) && rig.server_side(s).hears_markers());
        // By its client, as long as that is there, or behind it.
        let mut sent = Vec::new();
        assert!(rig.server_side_mut(s).clean_up(&mut sent));
        assert_eq!(show_client(&sent), "Q(UNLISTEN *;)");
        rig.answer(a, "C(UNLISTEN) Z(I)", "");
        assert!(!rig.server_side(s).hears_markers());
    });
    in_pieces(|rig| {
        let (a, s) = rig.listening();
        rig.depart(a, s);
        rig.answer(a, "C(LISTEN) Z(I) E(54000 too many notifications in the NOTIFY queue) Z(I)", "");
        hush(rig, s);
        rig.answer(a, "E(57014 canceling statement) Z(I)", "");
        hush(rig, s);
        rig.answer(a, "C(UNLISTEN) Z(I)", "");
        assert!(!rig.server_side(s).hears_markers());
    });
}

#[test]
fn what_comes_while_the_pooler_asks_is_the_clients() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        rig.probe(a, s);
        rig.answer(a, "A(x,1) C(SET) T A(x,2) C(SELECT 0) A(x,3) Z(I)", "A(x,1) A(x,2) A(x,3)");
        // But not another's, who has the server next.
        let b = rig.client();
        rig.round(a, "Q(listen x)", "C(LISTEN) Z(I)");
        rig.lease(b, s, "Q(UNLISTEN *;)", "");
        rig.answer(b, "A(x,4) C(UNLISTEN) Z(I)", "");
    });
}

#[test]
fn a_channel_of_the_clients_that_is_called_like_ours_keeps_its_server() {
    in_pieces(|rig| {
        let (a, s) = rig.pair();
        let named = private_channel([0x22; 16]);
        rig.round(a, &format!("Q(listen {named})"), "C(LISTEN) Z(I)");
        rig.probe(a, s);
        rig.probe_answered(a, &[["", "", ""], ["n", &named, ""]]);
        assert_eq!(rig.server_side(s).held_for(rig.client_side(a)), Leaves::LISTEN, "nobody else is to hear it");
        assert!(rig.server_side(s).movable(rig.client_side(a)).is_none(), "the listener has such a one of its own");
        let told = format!("A({named},1)");
        rig.answer(a, &told, &told);
    });
}

#[test]
fn our_own_channel_is_not_found_with_the_clients() {
    in_pieces(|rig| {
        let (a, s) = rig.listening();
        rig.depart(a, s);
        // It listens to ours, and to nothing of ours has come.
        rig.answer(a, "C(LISTEN) Z(I) E(54000 too many notifications in the NOTIFY queue) Z(I)", "");
        rig.round(a, "Q(unlisten x)", "C(UNLISTEN) Z(I)");
        rig.probe(a, s);
        rig.probe_answered(a, &[["", "", ""], ["n", &private(), ""]]);
        assert!(rig.server_side(s).held_for(rig.client_side(a)).is_nothing());
    });
}

#[test]
fn a_text_about_channels_has_them_back_in_front_of_it() {
    const HOME: &str =
        "Q(SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;LISTEN \"x\";LISTEN \"p\";NOTIFY p,'h1';) Q(UNLISTEN \"p\";)";
    in_pieces(|rig| {
        let (a, s) = rig.away();
        rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
        rig.ask_behind(a, "Q(listen y)", &format!("{HOME} Q(listen y)"));
        // The listener's words up to the marker come first, and what the server heard before it is among them.
        let said = long("C(SET) C(SET) C(LISTEN) C(LISTEN) C(NOTIFY) A(x,1) A(p,h1) A(x,2) Z(I) C(UNLISTEN) Z(I) C(LISTEN) Z(I)");
        rig.answer(a, &said, "");
        assert_eq!(rig.client_side(a).place(), Place::Returning);
        rig.answer(a, "", "");
        rig.returned(a);
        rig.answer(a, "A(y,3)", "A(x,2) C(LISTEN) Z(I) A(y,3)");
        assert!(!rig.server_side(s).hears_markers() && rig.server_side(s).is_worth_asking());
    });
}

#[test]
fn a_way_back_that_is_rolled_back_was_never_taken() {
    const HOME: &str = "Q(DO E'BEGIN IF pg_catalog.current_setting(''sidepool.home'',true) IS DISTINCT FROM ''1'' THEN \
                        PERFORM pg_catalog.set_config(''sidepool.home'',''1'',true);LISTEN \"x\";LISTEN \"p\";NOTIFY p,''h1'';END IF;END')";
    in_pieces(|rig| {
        let (a, s) = rig.away();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.ask_behind(a, "Q(unlisten x)", &format!("{HOME} Q(unlisten x) Q(LISTEN \"p\";)"));
        rig.answer(a, "C(DO) Z(T) C(UNLISTEN) Z(T) C(LISTEN) Z(T)", "C(UNLISTEN) Z(T)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) Z(I)");
        assert_eq!(rig.client_side(a).place(), Place::Away);
        assert!(rig.server_side(s).is_worth_asking(), "the server does not know that nothing came of it");
        // In a failed transaction nothing can be listened to.
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.round(a, "Q(bad)", "E(42601 syntax error) Z(E)");
        rig.round(a, "Q(unlisten x)", "E(25P02 aborted) Z(E)");
        // What begins with ROLLBACK can do it.
        let idle = "Q(ROLLBACK) Q(SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;LISTEN \"x\";LISTEN \"p\";NOTIFY p,'h1';) Q(UNLISTEN \"p\";) Q(BEGIN)";
        rig.ask_behind(a, "Q(rollback; unlisten *)", &format!("{idle} Q(rollback; unlisten *)"));
    });
}

/// Within its data a query of ours would be the end of the session: it comes in front of what the client says next.
#[test]
fn behind_a_text_with_a_copy_in_it_the_marker_is_listened_for_when_that_is_through() {
    let text = "unlisten *; copy t from stdin";
    let begun = |rig: &mut Rig| {
        let (a, s) = rig.away();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        let (sent, _) = rig.ask_bytes(a, &super::notation::from_client(&format!("Q({text})"))).expect("in order");
        let sent = short(&show_client(&sent));
        assert!(sent.starts_with("Q(DO ") && sent.ends_with(&format!(" Q({text})")), "{sent}");
        rig.answer(a, "C(DO) Z(T) C(UNLISTEN) G", "C(UNLISTEN) G");
        rig.ask(a, "d(1) c", "d(1) c", "");
        (a, s)
    };
    in_pieces(|rig| {
        let (a, _) = begun(rig);
        // Not before it is known how it ended.
        rig.ask(a, "Q(commit)", "H", "");
        rig.answer_through(a, "C(COPY 1) Z(T)");
        rig.go_on_long(a, "Q(LISTEN \"p\";) Q(commit)");
        rig.answer(a, &long("C(LISTEN) Z(T) C(COMMIT) A(p,h1) Z(I)"), "C(COMMIT)");
        assert_eq!(rig.client_side(a).place(), Place::Returning);
        rig.returned(a);
        rig.answer(a, "A(y,1)", "Z(I) A(y,1)");
    });
    in_pieces(|rig| {
        let (a, _) = begun(rig);
        rig.answer_through(a, "C(COPY 1) Z(T)");
        let (sent, _) = rig.ask_bytes(a, &super::notation::from_client("P(,commit) B E S")).expect("in order");
        let sent = short(&show_client(&sent));
        let words: Vec<_> = super::notation::split(&sent).iter().map(|w| w.chars().next().unwrap()).collect();
        assert_eq!(String::from_iter(words), "PCPBECCBES", "{sent}");
    });
    in_pieces(|rig| {
        let (a, _) = begun(rig);
        rig.answer_through(a, "E(22P02 no) Z(E)");
        // Nothing can be said now, nor need it when all of it is undone.
        rig.round(a, "Q(select 1)", "E(25P02 aborted) Z(E)");
        rig.round(a, "Q(rollback)", "C(ROLLBACK) Z(I)");
        rig.round(a, "Q(select 1)", "T D(1) C(SELECT 1) Z(I)");
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        rig.round(a, "Q(commit)", "C(COMMIT) Z(I)");
    });
}

/// The same in a batch: what stands behind the data is none of it.
#[test]
fn a_batch_with_a_copy_in_it_has_nothing_of_ours_behind_that() {
    in_pieces(|rig| {
        let (a, _) = rig.away();
        let batch = "P(,begin) B E P(,unlisten *) B E P(,copy t from stdin) B E S d(1) c S";
        let (sent, _) = rig.ask_bytes(a, &super::notation::from_client(batch)).expect("in order");
        assert!(show_client(&sent).ends_with("P(,copy t from stdin) B(,) E S d(1) c S"), "{}", show_client(&sent));
        let begun = "1 2 C(BEGIN)";
        rig.answer(
            a,
            &format!("{begun} 1 3 1 2 C(DO) 3 3 2 C(UNLISTEN) 1 2 G C(COPY 1) Z(T)"),
            &format!("{begun} 1 2 C(UNLISTEN) 1 2 G C(COPY 1) Z(T)"),
        );
        rig.ask_behind(a, "Q(commit)", "Q(LISTEN \"p\";) Q(commit)");
    });
}

#[test]
fn behind_a_rollback_that_took_the_way_back_the_server_hears_no_markers() {
    in_pieces(|rig| {
        let (a, s) = rig.away();
        rig.round(a, "Q(begin)", "C(BEGIN) Z(T)");
        let idle = "Q(ROLLBACK) Q(SET LOCAL statement_timeout=0;SET LOCAL lock_timeout=0;LISTEN \"x\";LISTEN \"p\";NOTIFY p,'h1';) Q(UNLISTEN \"p\";) Q(BEGIN)";
        // As asyncpg says it; nothing of ours comes behind it.
        rig.ask_behind(a, "Q(rollback; unlisten *)", &format!("{idle} Q(rollback; unlisten *)"));
        let said = "C(ROLLBACK) Z(I) C(SET) C(SET) C(LISTEN) C(LISTEN) C(NOTIFY) A(p,h1) Z(I)";
        rig.answer(a, &long(said), "");
        rig.answer(a, "", "");
        rig.returned(a);
        rig.answer(a, "C(UNLISTEN) Z(I) C(BEGIN) Z(T) C(ROLLBACK) C(UNLISTEN) Z(I)", "C(ROLLBACK) C(UNLISTEN) Z(I)");
        assert!(!rig.server_side(s).hears_markers());
    });
}

#[test]
fn in_a_batch_they_come_back_by_messages_of_the_batch() {
    in_pieces(|rig| {
        let (a, _) = rig.away();
        let (sent, _) =
            rig.ask_bytes(a, &super::notation::from_client("P(,select 1) B E P(,unlisten *) B E S")).expect("in order");
        let words: Vec<_> = super::notation::split(&show_client(&sent)).iter().map(|w| w.chars().next().unwrap()).collect();
        // Close, Parse, Bind, Execute and two Closes of ours, in front of the Bind and in front of the Sync.
        assert_eq!(String::from_iter(words), "PBEPCPBECCBECPBECCS");
        rig.answer(
            a,
            &long("1 2 D(1) C(SELECT 1) 1 3 1 2 C(DO) 3 3 2 C(UNLISTEN) 3 1 2 C(LISTEN) 3 3 A(p,h1) Z(I)"),
            "1 2 D(1) C(SELECT 1) 1 2 C(UNLISTEN)",
        );
        assert_eq!(rig.client_side(a).place(), Place::Returning);
        rig.returned(a);
        rig.answer(a, "A(y,1)", "Z(I) A(y,1)");
    });
}

#[test]
fn a_refused_way_back_ends_the_server_and_not_in_silence() {
    in_pieces(|rig| {
        let (a, _) = rig.away();
        rig.ask_bytes(a, &super::notation::from_client("Q(listen y)")).expect("in order");
        assert!(rig.answer_bytes(a, &from_server("E(54000 too many notifications in the NOTIFY queue) Z(I)")).is_err());
    });
}
