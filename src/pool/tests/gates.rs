use super::bed::Bed;
use crate::pool::Scope;

/// A PAUSE waits for its servers, and is taken back when nobody waits for it any more; others may have had a say by then.
#[tokio::test]
async fn a_pause_that_is_taken_back_takes_nothing_else_with_it() {
    let bed = Bed::new(1).await;
    let database = Scope::Database { project: bed.pool.key.project.clone(), database: "test".into() };
    let registry = &bed.registry;
    let all = registry.pause(Scope::All).expect("nothing is paused");
    assert!(registry.pause(Scope::All).is_none(), "it is already");
    let inside = registry.pause(database.clone()).expect("this is not");
    registry.take_back(&all);
    assert!(!registry.has_pause(&Scope::All) && registry.is_paused(&bed.pool.key), "the one inside it is another's");
    // KILL.
    registry.keep_paused(database);
    registry.take_back(&inside);
    assert!(registry.is_paused(&bed.pool.key));
    // Nor is it there for a PAUSE that came after a RESUME.
    let again = registry.pause(Scope::All).expect("it was taken back");
    assert!(registry.resume(&Scope::All));
    let third = registry.pause(Scope::All).expect("it was resumed");
    registry.take_back(&again);
    assert!(registry.is_paused(&bed.pool.key));
    registry.take_back(&third);
    assert!(!registry.has_paused());
}
