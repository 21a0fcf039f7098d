//! What is changed while others are connected.

use tokio_postgres::error::SqlState;

use crate::common::{Sidepool, until};
use crate::{all_in, all_out, answer, plain, sql, strict, ways, who};

#[tokio::test]
async fn a_09_a_changed_password_works_at_the_first_try_and_the_old_one_no_more() {
    sql("CREATE ROLE changing LOGIN PASSWORD 'pw0'").await;
    let sidepool = plain();
    let [session, transaction] = ways(&sidepool, "changing.ref", "pw0");
    let connected = [session.client().await, transaction.client().await];
    for turn in 1..6 {
        sql(&format!("ALTER ROLE changing PASSWORD 'pw{turn}'")).await;
        all_in(&sidepool, "changing.ref", &format!("pw{turn}"), "changing").await;
        all_out(&sidepool, "changing.ref", &format!("pw{}", turn - 1)).await;
    }
    for client in connected {
        client.batch_execute("SELECT 1").await.expect("who is connected stays so");
    }
}

#[tokio::test]
async fn trap_69_after_a_change_no_more_is_opened_with_the_old_key_and_one_attempt_tells_all() {
    sql("CREATE ROLE rotated LOGIN PASSWORD 'before'").await;
    let sidepool = Sidepool::start(strict(), &[("pool-size", "2"), ("workers", "1")]);
    let transaction = sidepool.transaction().user("rotated").password("before");
    let (holder, other) = (transaction.client().await, transaction.client().await);
    let late = transaction.client().await;
    holder.batch_execute("BEGIN").await.unwrap();
    sql("ALTER ROLE rotated PASSWORD 'after'").await;
    // It needs a second server, which the old key does not open any more: it gets the first when that comes free.
    let waiting = tokio::spawn(async move { other.batch_execute("SELECT 1").await });
    let refusal = "password authentication failed for user \"rotated\"";
    until("the upstream has refused", async || sidepool.log().contains(refusal)).await;
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(sidepool.log().matches(refusal).count(), 1, "{}", sidepool.log());

    // Without any server, whoever wants one is told at once, in PostgreSQL's words.
    sql("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'rotated'").await;
    let told = late.batch_execute("SELECT 1").await.unwrap_err();
    assert_eq!(told.code(), Some(&SqlState::INVALID_PASSWORD), "{told:?}");
    // The next login proves the new password, and opens again.
    assert_eq!(who(&sidepool.transaction().user("rotated").password("after")).await, Ok("rotated/rotated".into()));
}

#[tokio::test]
async fn the_asking_connection_may_break_at_any_time() {
    sql("CREATE ROLE persistent LOGIN PASSWORD 'pw'").await;
    // Known by its query, so that no other test's connection is meant.
    let query = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 AND 'breaks' <> ''";
    let sidepool = Sidepool::start(strict(), &[("auth-query", query)]);
    for _ in 0..3 {
        all_in(&sidepool, "persistent", "pw", "persistent").await;
        let ended = answer(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
             WHERE application_name = 'sidepool auth_query' AND query LIKE '%breaks%'",
        );
        assert_eq!(ended.await, "1");
    }
}

#[tokio::test]
async fn a_27_the_asking_users_password_may_change_without_a_disconnect() {
    sql("CREATE ROLE manager SUPERUSER LOGIN PASSWORD 'm1'; CREATE ROLE managed LOGIN PASSWORD 'pw'").await;
    let upstream = strict().direct().user("manager").password("m1").url();
    let sidepool = Sidepool::launch(&[], &format!("upstream = \"{upstream}\"\n")).unwrap();
    let connected = sidepool.transaction().user("managed").password("pw").client().await;
    connected.batch_execute("SELECT 1").await.unwrap();
    sql("ALTER ROLE manager PASSWORD 'm2'").await;
    connected.batch_execute("SELECT 1").await.unwrap();
    // The connection that asks is open still.
    all_in(&sidepool, "managed", "pw", "managed").await;
}
