use super::*;

#[test]
fn an_entry_is_as_small_as_the_bound_says() {
    assert!(size_of::<Entry>() <= 48);
}

fn plan(kinds: &[Kind]) -> Plan {
    let mut plan = Plan::default();
    kinds.iter().for_each(|k| plan.push(Entry::forward(*k)));
    plan
}

fn kinds(plan: &Plan) -> Vec<Kind> {
    plan.owed.iter().map(|e| e.kind).collect()
}

fn completes(plan: &mut Plan, tag: u8) -> Option<Kind> {
    let kind = plan.head().map(|head| head.kind);
    match plan.answer(tag).unwrap().1 {
        Done::No => None,
        Done::Yes | Done::Noted(_) => kind,
    }
}

#[test]
fn trap_04_each_reply_completes_its_own_request() {
    let mut p = plan(&[Kind::Parse, Kind::Bind, Kind::Describe, Kind::Execute, Kind::Close, Kind::Sync]);
    assert_eq!(completes(&mut p, b'1'), Some(Kind::Parse));
    assert_eq!(completes(&mut p, b'2'), Some(Kind::Bind));
    assert_eq!(completes(&mut p, b't'), None);
    assert_eq!(completes(&mut p, b'n'), Some(Kind::Describe));
    assert_eq!(completes(&mut p, b'D'), None);
    assert_eq!(completes(&mut p, b's'), Some(Kind::Execute));
    assert_eq!(completes(&mut p, b'3'), Some(Kind::Close));
    assert_eq!(kinds(&p), [Kind::Sync]);
    p.ready(Status::Idle).unwrap();
    assert!(p.is_settled());
}

#[test]
fn trap_04_a_simple_query_keeps_its_place_until_ready() {
    let mut p = plan(&[Kind::Query]);
    for tag in [b'T', b'D', b'C', b'I', b'H', b'd', b'c', b'C'] {
        assert_eq!(completes(&mut p, tag), None);
    }
    p.ready(Status::InTransaction).unwrap();
    assert_eq!(p.status(), Status::InTransaction);
}

#[test]
fn a_reply_nobody_asked_for_is_unexpected() {
    assert_eq!(plan(&[]).answer(b'C').unwrap_err(), Unexpected(b'C'));
    assert_eq!(plan(&[Kind::Parse]).answer(b'2').unwrap_err(), Unexpected(b'2'));
    assert_eq!(plan(&[Kind::Execute]).ready(Status::Idle).unwrap_err(), Unexpected(b'Z'));
}

#[test]
fn trap_05_an_error_kills_the_batch_up_to_its_sync_and_not_the_next() {
    let mut p = plan(&[Kind::Parse, Kind::Bind, Kind::Execute, Kind::Sync, Kind::Parse, Kind::Sync]);
    let mut dropped = Vec::new();
    assert_eq!(p.error(|e, _| dropped.push(e.kind)), Reply::Forward);
    assert_eq!(dropped, [Kind::Execute, Kind::Bind, Kind::Parse], "last first");
    assert_eq!(kinds(&p), [Kind::Sync, Kind::Parse, Kind::Sync]);
    assert!(!p.is_skipping());
}

#[test]
fn trap_05_an_error_before_its_sync_was_sent_skips_until_it_comes() {
    let mut p = plan(&[Kind::Bind, Kind::Query]);
    p.error(|_, _| {});
    assert!(p.is_skipping() && p.owes_nothing() && !p.is_settled());
    p.push(Entry::forward(Kind::Sync));
    assert!(!p.is_skipping());
    p.ready(Status::Idle).unwrap();
    assert!(p.is_settled());
}

#[test]
fn an_error_at_query_function_or_sync_waits_for_ready() {
    for kind in [Kind::Query, Kind::FunctionCall, Kind::Sync] {
        let mut p = plan(&[kind, Kind::Parse]);
        p.error(|_, _| panic!("nothing is dropped"));
        p.ready(Status::Idle).unwrap();
        assert_eq!(kinds(&p), [Kind::Parse]);
    }
}

#[test]
fn an_error_in_what_we_injected_is_swallowed_when_its_sync_is_ours() {
    let mut p = Plan::default();
    p.push(Entry::swallow(Kind::Parse).noting(Note::Learns { id: 7, batch: 0 }));
    p.push(Entry::swallow(Kind::Sync));
    p.push(Entry::forward(Kind::Query));
    assert_eq!(p.error(|_, _| {}), Reply::Swallow);
    assert_eq!(p.ready(Status::Failed).unwrap().0, Reply::Swallow);
    assert_eq!(kinds(&p), [Kind::Query]);

    let mut p = Plan::default();
    p.push(Entry::swallow(Kind::Parse));
    p.push(Entry::forward(Kind::Bind));
    p.push(Entry::forward(Kind::Sync));
    assert_eq!(p.error(|_, _| {}), Reply::Forward, "the client's own batch failed");
}

#[test]
fn trap_07_synthetic_replies_wait_for_their_turn() {
    let mut p = plan(&[Kind::Bind, Kind::Synthesize(Synthetic::CloseComplete), Kind::Sync]);
    assert!(p.next_synthetic().is_none());
    p.answer(b'2').unwrap();
    assert!(matches!(p.next_synthetic(), Some((Synthetic::CloseComplete, _))));
    assert!(p.next_synthetic().is_none());
}

#[test]
fn trap_18_syncs_before_copy_done_answer_nothing() {
    // libpq's pipeline: Execute, Sync, CopyData…, CopyDone, Sync.
    let mut p = plan(&[Kind::Execute, Kind::Sync, Kind::CopyEnd, Kind::Sync]);
    p.answer(b'G').unwrap();
    assert!(p.is_copying_in());
    assert_eq!(completes(&mut p, b'C'), Some(Kind::Execute));
    assert_eq!(kinds(&p), [Kind::Sync]);
    p.ready(Status::Idle).unwrap();
    assert!(p.is_settled());
}

#[test]
fn trap_18_an_error_while_copying_skips_to_the_sync_behind_the_end_of_the_copy() {
    let mut p = plan(&[Kind::Execute, Kind::Sync, Kind::CopyEnd, Kind::Sync]);
    p.answer(b'G').unwrap();
    p.error(|_, _| {});
    assert_eq!(kinds(&p), [Kind::Sync]);

    let mut p = plan(&[Kind::Execute, Kind::Sync]);
    p.answer(b'G').unwrap();
    p.error(|_, _| {});
    assert!(p.is_skipping(), "its CopyDone and Sync are still to come");
}

#[test]
fn trap_18_an_error_before_the_copy_began_counts_every_sync() {
    let mut p = plan(&[Kind::Execute, Kind::Sync, Kind::CopyEnd, Kind::Sync]);
    p.error(|_, _| {});
    assert_eq!(kinds(&p), [Kind::Sync, Kind::CopyEnd, Kind::Sync]);
    p.ready(Status::Idle).unwrap();
    assert!(p.next_synthetic().is_none());
    assert_eq!(kinds(&p), [Kind::Sync]);
}

#[test]
fn trap_19_a_copy_done_after_the_copy_failed_owes_nothing() {
    let mut p = plan(&[Kind::Query]);
    p.answer(b'G').unwrap();
    p.error(|_, _| {});
    p.push(Entry::forward(Kind::CopyEnd));
    p.ready(Status::Idle).unwrap();
    assert!(p.next_synthetic().is_none());
    assert!(p.is_settled());
}

#[test]
fn two_copies_in_one_query_each_end_with_their_own_copy_done() {
    let mut p = plan(&[Kind::Query, Kind::CopyEnd, Kind::CopyEnd]);
    for left in [1, 0] {
        p.answer(b'G').unwrap();
        p.answer(b'C').unwrap();
        assert_eq!(kinds(&p).len(), 1 + left);
    }
    p.ready(Status::Idle).unwrap();
    assert!(p.is_settled());
}
