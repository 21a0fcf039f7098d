//! Upstreams that let in nobody without TLS, or without a certificate.

use crate::common::{Plan, Postgres, Sidepool};
use crate::pki::{Authority, Signed, show};

/// For `app` over TLS alone, for `prisma` with a certificate alone, and for `p_scram` only without TLS.
struct Bed {
    authority: Authority,
    client: Signed,
    postgres: Postgres,
}

impl Bed {
    fn new() -> Self {
        let authority = Authority::new();
        let server = authority.sign("localhost", &["localhost"]).for_postgres();
        let client = authority.sign("prisma", &[]);
        let ca = authority.certificate();
        let files = [("ssl_cert_file", &server.certificate), ("ssl_key_file", &server.key), ("ssl_ca_file", &ca)];
        let mut settings = vec![("ssl".to_owned(), "on".to_owned())];
        settings.extend(files.map(|(name, path)| (name.to_owned(), show(path).to_owned())));
        let hba = [
            "hostssl all app 127.0.0.1/32 scram-sha-256",
            "hostnossl all app 127.0.0.1/32 reject",
            "hostssl all prisma 127.0.0.1/32 cert",
            "hostnossl all prisma 127.0.0.1/32 reject",
            "hostssl all p_scram 127.0.0.1/32 reject",
        ];
        let hba = hba.map(str::to_owned).to_vec();
        let postgres = Postgres::start(Plan { settings, hba, ..Plan::default() });
        Self { authority, client, postgres }
    }

    /// In front of it as `user`, with these parameters in the upstream's URL.
    fn sidepool(&self, user: &str, parameters: &str) -> Sidepool {
        let url = format!("postgres://{user}:secret@localhost:{}/postgres?{parameters}", self.postgres.port);
        Sidepool::launch(&[], &format!("upstream = \"{url}\"")).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// What a client gets to see of TLS on our connection, or the error.
    async fn asked(&self, user: &str, parameters: &str) -> Result<String, String> {
        let sidepool = self.sidepool(user, parameters);
        let sql = "SELECT ssl || ' ' || coalesce(client_dn, '-') FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let client = sidepool.transaction().user(user).try_client().await.map_err(|error| format!("{error:?}"))?;
        let row = client.query_one(sql, &[]).await.map_err(|error| format!("{error:?}"))?;
        Ok(row.get(0))
    }
}

#[tokio::test]
async fn trap_47_what_upstreams_demand_and_every_sslmode_gives() {
    let bed = tokio::task::spawn_blocking(Bed::new).await.unwrap();
    let root = format!("sslrootcert={}", show(&bed.authority.certificate()));
    let own = bed.client.parameters("&");
    for parameters in [
        "sslmode=prefer".to_owned(),
        "sslmode=require&channel_binding=require".to_owned(),
        format!("sslmode=verify-ca&{root}"),
        format!("sslmode=verify-full&{root}&channel_binding=require"),
    ] {
        assert_eq!(bed.asked("app", &parameters).await.as_deref(), Ok("true -"), "{parameters}");
    }
    let error = bed.asked("app", "sslmode=disable").await.unwrap_err();
    assert!(error.contains("pg_hba.conf rejects connection") && error.contains("no encryption"), "{error}");

    let certified = format!("sslmode=verify-full&{root}&{own}");
    assert_eq!(bed.asked("prisma", &certified).await.as_deref(), Ok("true /CN=prisma"));
    let error = bed.asked("prisma", "sslmode=require").await.unwrap_err();
    assert!(error.contains("connection requires a valid client certificate"), "{error}");
    let error = bed.asked("p_scram", "sslmode=require").await.unwrap_err();
    assert!(error.contains("pg_hba.conf rejects connection"), "{error}");
}

#[tokio::test]
async fn a_certificate_the_upstream_does_not_know_is_named_in_the_log() {
    let bed = tokio::task::spawn_blocking(Bed::new).await.unwrap();
    let stranger = Authority::new();
    let own = stranger.sign("prisma", &[]).parameters("&");
    let sidepool = bed.sidepool("prisma", &format!("sslmode=require&{own}"));
    let refused = sidepool.transaction().user("prisma").try_client().await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("08006"), "{refused:?}");
    sidepool.log_has("received fatal alert: UnknownCA");
}

#[tokio::test]
async fn trap_41_a_cancel_goes_to_an_upstream_of_certificates_too() {
    let bed = tokio::task::spawn_blocking(Bed::new).await.unwrap();
    let sidepool = bed.sidepool("prisma", &format!("sslmode=require&{}", bed.client.parameters("&")));
    let endpoint = sidepool.transaction().user("prisma");
    let mut client = endpoint.wire().await;
    let pid = client.backend().await;
    client.send(&crate::common::wire::query("SELECT pg_sleep(600)")).await;
    bed.postgres.sleeps(&pid).await;
    client.cancel().await;
    let replies = client.until(b'Z').await;
    assert!(crate::common::wire::show(&replies).contains("57014"), "{replies:?}");
}
