//! How a client names its project.

use crate::common::Sidepool;
use crate::common::wire::{Wire, show_in_full};
use crate::{plain, sql, strict, ways, who};

#[tokio::test]
async fn a_03_an_unknown_project_is_told_to_this_machine_with_those_there_are() {
    let url = strict().direct().url();
    let sidepool =
        Sidepool::launch(&[], &format!("[projects.one]\nupstream = \"{url}\"\n[projects.two]\nupstream = \"{url}\"\n")).unwrap();
    for user in ["postgres.three", "nobody.three"] {
        let (_, told) = Wire::try_login(&sidepool.session().user(user)).await;
        let told = show_in_full(&told);
        assert!(told.contains("28000 | project \"three\" does not exist") && told.contains("\"one\", \"two\""), "{told}");
    }
    assert_eq!(who(&sidepool.session().user("postgres.two")).await, Ok("postgres/postgres".into()));
}

#[tokio::test]
async fn a_04_a_project_named_by_every_form_of_options_which_no_server_sees() {
    let url = strict().direct().url();
    let file = format!("[projects.one]\nupstream = \"{url}\"\n[projects.two]\nupstream = \"{url}\"\npool_size = 1\n");
    let sidepool = Sidepool::launch(&[], &file).unwrap();
    sql("CREATE ROLE \"dotted.name\" LOGIN PASSWORD 'pw'").await;
    for reference in [
        "reference=two",
        "--reference=two",
        "-c reference=two",
        "-creference=two",
        "reference%3Dtwo",
        "-c work_mem=7MB reference=two",
    ] {
        for endpoint in ways(&sidepool, "dotted.name", "pw") {
            let mut client = endpoint.parameter("options", reference).wire().await;
            assert_eq!(client.value("SELECT current_user").await, "dotted.name", "{reference}");
            let expected = if reference.contains("work_mem") { "7MB" } else { "4MB" };
            assert_eq!(client.value("SHOW work_mem").await, expected, "{reference}");
            assert_eq!(client.value("SELECT coalesce(current_setting('reference', true), 'none')").await, "none");
        }
    }
    for endpoint in ways(&sidepool, "dotted.name", "pw") {
        let (_, told) = Wire::try_login(&endpoint.parameter("options", "reference=three")).await;
        assert!(show_in_full(&told).contains("project \"three\" does not exist"));
    }
}

#[tokio::test]
async fn a_05_names_that_cannot_be() {
    let sidepool = plain();
    let long = "x".repeat(64);
    for user in [&*long, "a\u{7f}b", "a\tb.ref"] {
        let (_, told) = Wire::try_login(&sidepool.session().user(user)).await;
        assert!(show_in_full(&told).contains("28000 | invalid user or database name"), "{}", show_in_full(&told));
    }
    let mut client = sidepool.session().parameter("options", "").wire().await;
    assert_eq!(client.value("SELECT 1").await, "1");
}
