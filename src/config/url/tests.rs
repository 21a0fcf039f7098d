use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;

use super::*;

fn upstream(url: &str) -> Upstream {
    parse(url).unwrap_or_else(|e| panic!("{url}: {e}")).0
}

fn refusal(url: &str) -> String {
    match parse(url) {
        Ok((upstream, _)) => panic!("{url} was taken as {upstream:?}"),
        Err(error) => error.message,
    }
}

/// user, password, host, port, database
fn parts(url: &str) -> (String, Option<String>, String, u16, String) {
    let u = upstream(url);
    let host = match u.host {
        Host::Tcp(name) => name,
        Host::Unix(path) => format!("unix:{}", path.display()),
    };
    (u.user, u.password.map(|p| p.reveal().to_owned()), host, u.port, u.database)
}

fn expect(url: &str, user: &str, password: Option<&str>, host: &str, port: u16, database: &str) {
    let wanted = (user.into(), password.map(Into::into), host.into(), port, database.into());
    assert_eq!(parts(url), wanted, "{url}");
}

#[test]
fn the_forms_of_libpqs_manual() {
    expect("postgresql://", "postgres", None, "localhost", 5432, "postgres");
    expect("postgresql://localhost", "postgres", None, "localhost", 5432, "postgres");
    expect("postgresql://localhost:5433", "postgres", None, "localhost", 5433, "postgres");
    expect("postgresql://localhost/mydb", "postgres", None, "localhost", 5432, "mydb");
    expect("postgresql://user@localhost", "user", None, "localhost", 5432, "user");
    expect("postgresql://user:secret@localhost", "user", Some("secret"), "localhost", 5432, "user");
    expect("postgresql://other@localhost/otherdb?connect_timeout=10", "other", None, "localhost", 5432, "otherdb");
    expect("postgresql:///mydb?host=localhost&port=5433", "postgres", None, "localhost", 5433, "mydb");
    expect("postgresql://[2001:db8::1234]/database", "postgres", None, "2001:db8::1234", 5432, "database");
    expect("postgresql:///dbname?host=/var/lib/postgresql", "postgres", None, "unix:/var/lib/postgresql", 5432, "dbname");
    expect("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", "postgres", None, "unix:/var/lib/postgresql", 5432, "dbname");
}

#[test]
fn further_forms() {
    expect("postgres://u:p%40ss%2Fw%25@h.example:6000/d%20b", "u", Some("p@ss/w%"), "h.example", 6000, "d b");
    expect("postgres://u:p+w@h/db", "u", Some("p+w"), "h", 5432, "db");
    expect("postgres://u:p@ss#1@h/db", "u", Some("p@ss#1"), "h", 5432, "db");
    expect("postgres://u:a:b@[::1]:7/db", "u", Some("a:b"), "::1", 7, "db");
    expect("postgres://u:@h:/", "u", None, "h", 5432, "u");
    expect("postgres://:pw@h", "postgres", Some("pw"), "h", 5432, "postgres");
    expect("postgres://h/?user=a%40b&password=p@w&dbname=x", "a@b", Some("p@w"), "h", 5432, "x");
    expect("postgres://[fe80::1%25eth0]/x", "postgres", None, "fe80::1%eth0", 5432, "x");
    expect("postgres://h1/x?host=::1&port=&user=", "postgres", None, "::1", 5432, "x");
    expect(" postgres://h/x\n", "postgres", None, "h", 5432, "x");
}

#[test]
fn tls_parameters() {
    let tls = |query: &str| upstream(&format!("postgres://h/d?{query}")).tls;
    for (name, mode) in [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Prefer),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ] {
        assert_eq!(tls(&format!("sslmode={name}")), UpstreamTls::new(mode));
    }
    assert_eq!(tls("").mode, SslMode::Prefer);
    assert_eq!(tls("ssl=true").mode, SslMode::Require);
    assert_eq!(tls("sslrootcert=system").mode, SslMode::VerifyFull);
    assert_eq!(tls("sslrootcert=system").root_certificate, None);
    assert_eq!(tls("sslmode=require&sslrootcert=/ca.pem").mode, SslMode::VerifyCa);
    assert_eq!(tls("sslmode=verify-full&sslrootcert=%2Fca.pem").root_certificate, Some("/ca.pem".into()));
    assert!(tls("sslmode=require&sslnegotiation=direct").direct);
    let own = CertificateFiles { certificate: "/me.crt".into(), key: "me key.pem".into() };
    assert_eq!(tls("sslcert=/me.crt&sslkey=me%20key.pem").client_certificate, Some(own));
    for (word, binding) in
        [("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)]
    {
        assert_eq!(tls(&format!("channel_binding={word}")).channel_binding, binding);
    }
    for query in ["sslmode=no-verify", "sslnegotiation=direct", "sslnegotiation=x", "sslmode=require&sslrootcert=system"] {
        let _ = refusal(&format!("postgres://h/d?{query}"));
    }
}

#[test]
fn parameters_of_drivers_are_noted_and_misspelt_ones_refused() {
    let (_, notes) =
        parse("postgres://h/d?schema=public&pgbouncer=true&connection_limit=1&pool_timeout=0&connect_timeout=3&sslmode=require")
            .unwrap();
    assert_eq!(
        notes,
        [
            "parameters in the upstream's URL that have no effect here: schema, pgbouncer, connection_limit, pool_timeout, connect_timeout"
        ]
    );
    assert_eq!(parse("postgres://h/d").unwrap().1, Vec::<String>::new());
    assert_eq!(refusal("postgres://h/d?sslmod=require"), "the URL has an unknown parameter `sslmod`; did you mean `sslmode`?");
    // PostgreSQL's client looks these up elsewhere; here they change nothing, and near misses of ours they are not.
    for name in ["application_name", "target_session_attrs", "options", "passfile", "sslcrl", "supa", "schema"] {
        assert!(parse(&format!("postgres://h/d?{name}=x")).unwrap().1[0].ends_with(name), "{name}");
    }
}

#[test]
fn what_cannot_be_read_is_said_in_a_sentence() {
    for (url, message) in [
        ("", "the URL is empty"),
        ("\"postgres://h/d\"", "the URL begins with a quotation mark"),
        ("mysql://h/d", "the URL does not begin with postgres:// or postgresql://"),
        ("host=localhost dbname=x", "this is a key=value connection string, and a URL is wanted"),
        ("postgres://a,b/d", "the URL names several hosts, and an upstream is one"),
        ("postgres://h:1,2/d", "the URL names several hosts, and an upstream is one"),
        ("postgres:///d?host=a,b", "the URL names several hosts, and an upstream is one"),
        ("postgres://h:x/d", "the port in the URL is not a number from 1 to 65535"),
        ("postgres://h:0/d", "the port in the URL is not a number from 1 to 65535"),
        ("postgres://h:+5/d", "the port in the URL is not a number from 1 to 65535"),
        ("postgres://h:65536/d", "the port in the URL is not a number from 1 to 65535"),
        ("postgres://::1/d", "the port in the URL is not a number from 1 to 65535"),
        ("postgres://[::1/d", "the host in the URL is neither a name, an address nor a directory"),
        ("postgres://[::1]x/d", "the host in the URL is neither a name, an address nor a directory"),
        ("postgres://[h]/d", "the host in the URL is neither a name, an address nor a directory"),
        ("postgres://a%20b/d", "the host in the URL is neither a name, an address nor a directory"),
        ("postgres://u:100%@h/d", "the password in the URL has a % without two hexadecimal digits behind it"),
        ("postgres://u:%+1@h/d", "the password in the URL has a % without two hexadecimal digits behind it"),
        ("postgres://u:%00@h/d", "the password in the URL has a zero byte"),
        ("postgres://u:%ff@h/d", "the password in the URL is not UTF-8"),
        ("postgres://h/d?x", "a parameter of the URL has no value"),
        ("postgres://h/d?hostaddr=::1", "the URL's hostaddr is not supported"),
        // An unescaped slash or question mark in a password.
        ("postgres://u:1234/w@h/d", "an @ stands behind the host in the URL"),
        ("postgres://u:1234?w=1@h/d", "an @ stands behind the host in the URL"),
        ("postgres://u:a@b/c@h/d", "an @ stands behind the host in the URL"),
    ] {
        assert_eq!(refusal(url), message, "{url}");
    }
    assert!(refusal(&format!("postgres://{}", "h".repeat(URL_BYTES_MAX))).starts_with("the URL is longer than"));
    assert!(refusal(&format!("postgres://{}", "h".repeat(HOST_BYTES_MAX + 1))).starts_with("the host"));
}

proptest! {
    #[test]
    fn escaped_parts_come_back(user in "[^\0]{1,20}", password in "[^\0]{1,20}", database in "[^\0]{1,20}", port in 1u16..) {
        let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let url = format!("postgres://{}:{}@h:{port}/{}", escape(&user), escape(&password), escape(&database));
        prop_assert_eq!(parts(&url), (user, Some(password), "h".to_owned(), port, database));
    }

    /// Whatever is in the password, escaped or not: nothing that is said about the URL holds it.
    #[test]
    fn no_password_is_ever_shown(password in "[0-9a-zA-Z@/?#%&=:,\\[\\] ]{0,6}Z9q[0-9a-zA-Z@/?#%&=:,\\[\\] ]{0,6}", tail in "\\PC{0,12}") {
        for url in [
            format!("postgres://u:{password}@h/{tail}"),
            format!("postgres://u:{password}@{tail}"),
            format!("postgres://u@h/d?password={password}&{tail}"),
            format!("u:{password}@{tail}"),
        ] {
            match parse(&url) {
                Err(error) => prop_assert!(!error.to_string().contains(&password), "{}", error),
                Ok((upstream, notes)) => {
                    prop_assert!(!notes.concat().contains(&password));
                    if upstream.password.as_ref().is_some_and(|p| p.reveal() == password) {
                        let shown = format!("{upstream:?}");
                        prop_assert!(!shown.contains(&password), "{}", shown);
                    }
                }
            }
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}", shaped in "postgres://[a-z0-9:@/?&=,%\\[\\]. é]{0,40}") {
        let _ = (parse(&text), parse(&shaped));
    }
}
