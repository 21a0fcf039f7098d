//! `sidepool top`: the pools of a running Sidepool in a terminal, by its console.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::probe::{Probe, explain_console};
use super::urls::Endpoint;
use super::{dev, report, serve};
use crate::config::{ConfigError, Prepared, SslMode, Upstream, UpstreamSocket, UpstreamTls};
use crate::net::tls::TlsContext;
use crate::server::StartError;
use crate::upstream::{self, ConnectError, Row};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Rows of each part, so that it fits a screen: the first by name, and of waiters and pins the longest.
const ROWS: usize = 20;
/// Cursor home, and all behind it gone.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What is asked, in this order.
fn questions() -> [String; 5] {
    [
        "LISTS".to_owned(),
        "STATE".to_owned(),
        format!("MODES LIMIT {ROWS}"),
        format!("WAITERS LIMIT {ROWS}"),
        format!("PINS LIMIT {ROWS}"),
    ]
    .map(|view| format!("SHOW {view}"))
}

/// Looks once, or again and again until it is interrupted. Exit code 1: nothing can be seen.
pub fn run(prepared: &Prepared, once: bool, colour: bool) -> ExitCode {
    let looked = serve::on_runtime(1, async {
        let console = Console::new(prepared)?;
        let mut before = None;
        loop {
            let now = console.look().await.map_err(|error| explain_console(&console.upstream, &error))?;
            let text = now.text(before.as_ref());
            let screen = if once { text } else { format!("{CLEAR}{text}") };
            // Whoever has closed the pipe wants no more.
            if io::stdout().write_all(screen.as_bytes()).and_then(|()| io::stdout().flush()).is_err() || once {
                return Ok(());
            }
            before = Some(now);
            tokio::time::sleep(EVERY).await;
        }
    });
    match looked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error(&ConfigError::new(error.message, error.hint), colour);
            ExitCode::FAILURE
        }
    }
}

/// How the console of a Sidepool with these settings is reached.
struct Console {
    upstream: Upstream,
    tls: TlsContext,
    probe: Probe,
}

impl Console {
    fn new(prepared: &Prepared) -> Result<Self, StartError> {
        let endpoint = Endpoint::of(prepared.listen());
        let port = endpoint.transaction_port.or(endpoint.session_port).filter(|port| *port != 0);
        let port = port.ok_or_else(|| {
            StartError::new("the port is 0, one that the running process has chosen", "Give it with --transaction-port.")
        })?;
        let (user, password) = prepared.login()?.unwrap_or_else(dev::superuser);
        let upstream = Upstream {
            host: endpoint.host,
            port,
            user,
            password,
            database: "sidepool".to_owned(),
            // To ourselves, with a certificate of ours.
            tls: UpstreamTls::new(SslMode::Prefer),
            socket: UpstreamSocket::Off,
        };
        let tls = TlsContext::load(&upstream.tls)
            .map_err(|error| StartError::new(error.to_string(), "Look at the system's certificates."))?;
        let probe = Probe::new(prepared.timeouts())?;
        Ok(Self { upstream, tls, probe })
    }

    async fn look(&self) -> Result<Look, ConnectError> {
        let connected = self.probe.connect(&self.upstream, &self.tls).await?;
        let place = super::probe::place(&self.upstream);
        let questions = questions();
        let asking = upstream::queries(connected, place, &questions);
        let answers =
            tokio::time::timeout(self.probe.limit, asking).await.unwrap_or_else(|_| Err(super::probe::silent(&self.upstream)))?;
        Look::read(answers).ok_or_else(|| ConnectError::protocol("it answers as no Sidepool does".to_owned()))
    }
}

/// What was seen at one moment.
struct Look {
    at: Instant,
    lists: Vec<Row>,
    state: Vec<Row>,
    pools: Vec<Row>,
    waiters: Vec<Row>,
    pins: Vec<Row>,
}

/// A column of the table: its title, its place in the view, and whether it is a number.
type Column = (&'static str, usize, bool);

const POOLS: [Column; 12] = [
    ("PROJECT", 0, false),
    ("DATABASE", 1, false),
    ("USER", 2, false),
    ("MODE", 3, false),
    ("CLIENTS", 4, true),
    ("WAITING", 5, true),
    ("MAXWAIT", 6, true),
    ("IDLE", 8, true),
    ("ACTIVE", 9, true),
    ("HELD", 10, true),
    ("OPENING", 11, true),
    ("SIZE", 12, true),
];
/// Places of the counters in MODES.
const TRANSACTIONS: usize = 14;
const QUERIES: usize = 15;

const WAITERS: [Column; 6] = [
    ("WAITING", 5, true),
    ("DATABASE", 1, false),
    ("USER", 2, false),
    ("MODE", 3, false),
    ("APPLICATION", 6, false),
    ("MS", 8, true),
];
const PINS: [Column; 7] = [
    ("PINNED", 3, true),
    ("DATABASE", 1, false),
    ("USER", 2, false),
    ("APPLICATION", 4, false),
    ("MS", 7, true),
    ("REASONS", 9, false),
    ("STATEMENT", 10, false),
];

impl Look {
    fn read(answers: Vec<Vec<Row>>) -> Option<Self> {
        let [lists, state, pools, waiters, pins] = <[Vec<Row>; 5]>::try_from(answers).ok()?;
        Some(Self { at: Instant::now(), lists, state, pools, waiters, pins })
    }

    fn text(&self, before: Option<&Self>) -> String {
        let value = |of: &[Row], key: &str| {
            let row = of.iter().find(|row| text(row, 0) == key);
            row.map(|row| text(row, 1)).unwrap_or_default()
        };
        let [used, free] = ["used_clients", "free_clients"].map(|key| value(&self.lists, key).parse::<u64>().unwrap_or(0));
        let [servers, more] = ["used_servers", "free_servers"].map(|key| value(&self.lists, key).parse::<u64>().unwrap_or(0));
        let state: Vec<_> = self.state.iter().filter(|row| text(row, 1) == "yes").map(|row| text(row, 0)).collect();
        let mut out = format!("clients {used}/{}   servers {servers}/{}   {}\n\n", used + free, servers + more, state.join(", "));
        let rates: Vec<Row> = self.pools.iter().map(|pool| self.with_rates(pool, before)).collect();
        let columns: Vec<Column> = POOLS.into_iter().chain([("TX/S", TRANSACTIONS, true), ("QUERY/S", QUERIES, true)]).collect();
        table(&mut out, &columns, &rates);
        for (columns, rows) in [(&WAITERS[..], &self.waiters), (&PINS[..], &self.pins)] {
            if !rows.is_empty() {
                out.push('\n');
                table(&mut out, columns, rows);
            }
        }
        out
    }

    /// The counters as what they grew by in a second since `before`.
    fn with_rates(&self, pool: &Row, before: Option<&Self>) -> Row {
        let same = |row: &&Row| (0..4).all(|at| row.get(at) == pool.get(at));
        let before = before.and_then(|before| Some((before.pools.iter().find(same)?, self.at - before.at)));
        let rate = |at: usize| {
            let (row, passed) = before?;
            let grown = number(pool, at)?.saturating_sub(number(row, at)?);
            Some(format!("{:.0}", grown as f64 / passed.as_secs_f64()))
        };
        let mut row = pool.clone();
        for at in [TRANSACTIONS, QUERIES] {
            if let Some(cell) = row.get_mut(at) {
                *cell = Some(rate(at).unwrap_or_else(|| "-".to_owned()));
            }
        }
        row
    }
}

fn number(row: &Row, at: usize) -> Option<u64> {
    row.get(at)?.as_deref()?.parse().ok()
}

/// As it may stand in a terminal: what a client calls itself may have anything in it.
fn text(row: &Row, at: usize) -> String {
    let cell = row.get(at).and_then(Option::as_deref).unwrap_or_default();
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn table(out: &mut String, columns: &[Column], rows: &[Row]) {
    let lines: Vec<Vec<String>> = std::iter::once(columns.iter().map(|(title, ..)| (*title).to_owned()).collect())
        .chain(rows.iter().map(|row| columns.iter().map(|(_, at, _)| text(row, *at)).collect()))
        .collect();
    let widths: Vec<usize> =
        (0..columns.len()).map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0)).collect();
    for line in lines {
        let cells = line.iter().zip(columns).zip(&widths).map(|((cell, (.., is_number)), width)| {
            if *is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Row {
        cells.iter().map(|cell| Some((*cell).to_owned())).collect()
    }

    fn look(transactions: &str) -> Look {
        let pool = ["*", "shop", "ann", "transaction", "7", "1", "2", "0", "3", "4", "1", "0", "20", "0", transactions, "90"];
        let lists = ["used_clients", "free_clients", "used_servers", "free_servers"].map(|list| row(&[list, "5"]));
        let waiter = row(&["*", "shop", "ann", "transaction", "1", "12", "a\u{1b}[31mb", "127.0.0.1:5", "250"]);
        let answers =
            vec![lists.to_vec(), vec![row(&["active", "yes"]), row(&["paused", "no"])], vec![row(&pool)], vec![waiter], vec![]];
        Look::read(answers).unwrap()
    }

    #[test]
    fn counters_become_rates_and_nothing_moves_the_cursor() {
        let mut now = look("300");
        let before = look("100");
        now.at = before.at + Duration::from_secs(2);
        assert_eq!(
            now.text(Some(&before)),
            "clients 5/10   servers 5/10   active\n\n\
             PROJECT  DATABASE  USER  MODE         CLIENTS  WAITING  MAXWAIT  IDLE  ACTIVE  HELD  OPENING  SIZE  TX/S  QUERY/S\n\
             *        shop      ann   transaction        7        1        2     3       4     1        0    20   100        0\n\n\
             WAITING  DATABASE  USER  MODE         APPLICATION   MS\n     \
             12  shop      ann   transaction  a [31mb      250\n"
        );
        assert!(now.text(None).contains("   -        -\n"), "{}", now.text(None));
    }
}
