//! The model that the sweep of the exchange measures against (`src/wire/exchange/tests/sweep.rs`) says what PostgreSQL says:
//! the same scripts, message for message.

mod common;
#[cfg(test)]
#[path = "../src/wire/exchange/tests/model.rs"]
#[allow(dead_code)]
mod model;
#[cfg(test)]
#[path = "../src/wire/exchange/tests/notation.rs"]
#[allow(dead_code)]
mod notation;
#[cfg(test)]
#[path = "../src/wire/exchange/tests/rng.rs"]
mod rng;
#[cfg(test)]
#[path = "../src/wire/exchange/tests/script.rs"]
mod script;
#[cfg(test)]
#[path = "../src/wire/exchange/tests/sql.rs"]
#[allow(dead_code)]
mod sql;

use common::{Endpoint, Postgres};
use model::Backend;
use notation::{from_client, message, show_server};
use rng::Rng;
use script::{Pins, script};

/// Each takes some 20 ms, for a login most of all.
const SEEDS: u64 = 200;

/// What the scripts need: a row to read and to divide by, tables to copy into, one of which refuses before it has read
/// anything.
const SCHEMA: &str = "CREATE TABLE z (zero int); INSERT INTO z VALUES (0); CREATE TABLE t (a int); CREATE TABLE tb (a int);
    CREATE FUNCTION boom() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'boom'; END $$;
    CREATE TRIGGER boom BEFORE INSERT ON tb EXECUTE FUNCTION boom();";

/// All that PostgreSQL says to these bytes and a goodbye behind them.
async fn said_by(postgres: &Endpoint, bytes: &[u8]) -> String {
    let mut client = postgres.wire().await;
    client.send(&[bytes, &message(b'X', &[])].concat()).await;
    let replies = client.until_closed().await;
    let said: Vec<u8> = replies.iter().flat_map(|reply| message(reply.tag, &[&in_short(reply.tag, &reply.body)])).collect();
    show_server(&said)
}

/// A report without what the model does not say: details, hints, positions, places in the source.
fn in_short(tag: u8, body: &[u8]) -> Vec<u8> {
    if !matches!(tag, b'E' | b'N') {
        return body.to_vec();
    }
    let fields = body.split(|byte| *byte == 0).filter(|field| matches!(field.first(), Some(b'S' | b'V' | b'C' | b'M')));
    let mut kept: Vec<u8> = fields.flat_map(|field| [field, b"\0"].concat()).collect();
    kept.push(0);
    kept
}

#[tokio::test]
async fn the_model_says_what_postgresql_says() {
    let endpoint = Postgres::shared().new_database("model").await;
    endpoint.wire().await.run(SCHEMA).await;
    let endpoint = endpoint.parameter("TimeZone", "UTC").parameter("DateStyle", "ISO, MDY").parameter("application_name", "");
    for seed in 0..SEEDS {
        let pins = if seed % 4 == 0 { Pins::Never } else { Pins::Sometimes };
        let mut words = script(&mut Rng::new(seed), pins);
        // A FunctionCall of the notation calls nothing.
        words.retain(|word| word != "F");
        let script = words.join(" ");
        let bytes = from_client(&script);
        let expected = show_server(Backend::alone(&bytes).output());
        assert_eq!(expected, said_by(&endpoint, &bytes).await, "seed {seed}: {script}");
    }
}
