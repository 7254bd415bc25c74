//! Two processes, signals and pipes.

use std::io::Read;
use std::process::Stdio;

use super::support::{Folder, send, wait_for_end, wait_until};

const ENDLESS: &str =
    "select count(*) from generate_series(1, 1000000) a(x), generate_series(1, 1000000) b(y) where (x * y) % 7 = 3";

#[test]
fn a_command_runs_inside_lode_up() {
    let folder = Folder::empty();
    let mut up = folder.up();
    let addresses = std::fs::read_to_string(folder.path().join(".lode/run/addresses.json")).unwrap();
    let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
    assert_eq!(addresses["pid"], up.child.id());
    // It cannot run elsewhere: the lock is held.
    assert_eq!(folder.lode(&["sql", "-c", "select 1 as x", "--format", "csv"]).done(), "x\n1\n");
    // Exit codes and words come through.
    let ended = folder.lode(&["sql", "-c", "selec"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.err.contains("<sql>:1:1"), "{}", ended.err);
    // Much data comes whole.
    let rows = folder.lode(&["sql", "-c", "select * from generate_series(1, 200000)", "--format", "csv"]).done();
    assert_eq!(rows.lines().count(), 200_001);
    assert_eq!(up.stop("TERM"), Some(0), "{}", up.log());
    assert!(!folder.path().join(".lode/run/lode.sock").exists());
}

#[test]
fn a_command_inside_lode_up_has_the_variables_of_its_own_shell() {
    let folder = Folder::template();
    let config = std::fs::read_to_string(folder.path().join("lode.yml")).unwrap();
    folder.write("lode.yml", config.replace("path: landing/orders", "path: \"${env:ORDERS:landing/none}\""));
    let up = folder.up_with(&[("ORDERS", "landing/of-the-server"), ("CITY", "Oslo")], &[]);
    let ask = ["show", "--inline", "select '{{ env_var(\"CITY\") }}' as city", "--format", "csv"];
    assert_eq!(folder.lode_with(&[("CITY", "Rabat")], &ask).done(), "city\nRabat\n");
    // What only the server has is not set here.
    let ended = folder.lode(&ask);
    assert_eq!(ended.code, Some(2), "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("environment variable \"CITY\" is not set"), "{}", ended.err);
    // The same in lode.yml; what `lode up` does by itself goes by its own.
    let landed = folder.lode_with(&[("ORDERS", "landing/orders")], &["ingest", "--format", "csv"]).done();
    assert!(landed.contains("orders,bronze.orders,1,5,4,1,0"), "{landed}");
    folder
        .write("landing/of-the-server/a.csv", "order_id,customer,ordered_at,amount\n9,Ada,2026-01-07T08:00:00Z,1.00\n");
    let count = || folder.lode(&["sql", "-q", "-c", "select count(*) as n from bronze.orders", "--format", "csv"]).out;
    wait_until(|| count() == "n\n5\n", || format!("{}{}", count(), up.log()));
}

#[test]
fn a_second_lode_up_is_refused() {
    let folder = Folder::empty();
    let up = folder.up();
    let ended = folder.lode(&["up"]);
    assert_eq!(ended.code, Some(3));
    let wanted = format!("process {}: lode up serves this data folder already", up.child.id());
    assert!(ended.err.contains(&wanted), "{}", ended.err);
}

#[test]
fn a_killed_lode_up_leaves_nothing_in_the_way() {
    let folder = Folder::empty();
    let mut up = folder.up();
    up.stop("KILL");
    assert!(folder.path().join(".lode/run/lode.sock").exists());
    folder.lode(&["sql", "-c", "select 1"]).done();
    let mut up = folder.up();
    folder.lode(&["sql", "-c", "select 1"]).done();
    assert_eq!(up.stop("INT"), Some(0));
}

#[test]
fn a_long_path_has_a_socket_too() {
    let deep = format!("{}/p", "a_rather_long_folder_name/".repeat(6));
    let folder = Folder::with(&[(&format!("{deep}/lode.yml"), "")]);
    let mut child = folder.command(&["up", "--project-dir", &deep]).stderr(Stdio::piped()).spawn().unwrap();
    let socket = folder.path().join(&deep).join(".lode/run/lode.sock");
    wait_until(|| socket.exists(), || "no socket".to_owned());
    folder.lode(&["sql", "-c", "select 1", "--project-dir", &deep]).done();
    send(&child, "INT");
    assert_eq!(wait_for_end(&mut child), Some(0));
}

#[test]
fn a_waiting_command_says_for_whom_and_gives_up() {
    let folder = Folder::empty();
    folder.lode(&["status"]).done();
    let mut holder =
        folder.command(&["sql", "-c", ENDLESS]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(
        || folder.lode(&["status", "--lock-timeout", "0s"]).code == Some(3),
        || "the lock is never held".to_owned(),
    );
    let ended = folder.lode(&["status", "--lock-timeout", "400ms"]);
    assert_eq!(ended.code, Some(3));
    let holder_words = format!("process {}: lode sql -c", holder.id());
    assert!(ended.err.contains(&format!("waiting for {holder_words}")), "{}", ended.err);
    assert!(ended.err.contains("give a longer `--lock-timeout`"), "{}", ended.err);
    // Ctrl-C ends a command with 130.
    send(&holder, "INT");
    assert_eq!(wait_for_end(&mut holder), Some(130));
    folder.lode(&["status"]).done();
}

#[test]
fn ctrl_c_of_a_client_cancels_its_command_only() {
    let folder = Folder::empty();
    let mut up = folder.up();
    let mut client =
        folder.command(&["sql", "-c", ENDLESS]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // It is connected once `lode up` has a thread for it.
    let tasks = format!("/proc/{}/task", up.child.id());
    let is_served = || {
        let names = std::fs::read_dir(&tasks).unwrap().flatten();
        names
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .any(|name| name.trim() == "client")
    };
    wait_until(is_served, || "the client is not served".to_owned());
    send(&client, "INT");
    assert_eq!(wait_for_end(&mut client), Some(130));
    wait_until(|| !is_served(), || "the command goes on".to_owned());
    folder.lode(&["sql", "-c", "select 1"]).done();
    assert_eq!(up.stop("INT"), Some(0));
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let folder = Folder::empty();
    let mut child = folder
        .command(&["sql", "-c", "select * from generate_series(1, 10000000)", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 5];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut head).unwrap();
    drop(out);
    assert_eq!(wait_for_end(&mut child), Some(0));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[test]
fn the_data_folder_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::empty();
    let _up = folder.up();
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".lode"), 0o700);
    assert_eq!(mode(".lode/run/lode.sock"), 0o600);
}

#[test]
fn an_interrupted_torture_says_so_and_finds_nothing_broken() {
    for signal in ["INT", "TERM"] {
        let folder = Folder::empty();
        let out = folder.path().join("out.log");
        let mut child = folder
            .command(&["prove", "torture", "--short", "--seed", "3", "--time", "10m"])
            .env("TMPDIR", folder.path())
            .stdout(std::fs::File::create(&out).unwrap())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = || std::fs::read_to_string(&out).unwrap();
        // In the middle of a round, most likely in a command that must succeed.
        wait_until(|| said().contains("ok kill -9"), said);
        send(&child, signal);
        assert_eq!(wait_for_end(&mut child), Some(130), "{}", said());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(err.contains("interrupted after ") && err.contains(" whole round"), "{err}");
        assert!(!said().contains("BROKEN") && !said().contains("whole after"), "{}", said());
    }
}

/// Deletes and updates of a table whose file is large enough for deletion vectors, killed at each step of theirs.
#[test]
fn a_killed_change_of_rows_happened_whole_or_not_at_all() {
    const ROWS: u64 = 60_000;
    const STEP: u64 = 997;
    let folder = Folder::empty();
    let make = format!(
        "create table t as select v as id, md5(v::text) || md5((v * 7)::text) || md5((v * 13)::text) as noise \
         from generate_series(1, {ROWS}) as s(v)"
    );
    folder.lode(&["sql", "-c", &make]).done();
    let number = |sql: &str| -> u64 {
        let out = folder.lode(&["sql", "--format", "csv", "-c", sql]).done();
        out.lines().last().unwrap().parse().unwrap()
    };
    let mut gone = 0;
    // Before the seal nothing has happened; behind it, the change will.
    let points = [
        ("engine.write.files_written", false),
        ("epoch.seal.before", false),
        ("epoch.seal.after", true),
        ("lake.commit.before_put", true),
        ("lake.commit.after_put", true),
        ("epoch.publish.before", true),
        ("epoch.publish.after", true),
    ];
    for (round, (point, happens)) in points.iter().chain(&points).enumerate() {
        let is_delete = round < points.len();
        let touched = (1..=ROWS).filter(|id| id % STEP == round as u64).count() as u64;
        let change = match is_delete {
            true => "delete from t".to_owned(),
            false => format!("update t set noise = 'n{round}'"),
        };
        let statement = format!("{change} where id % {STEP} = {round}");
        let ended = folder.lode_with(&[("LODE_FAIL_POINT", point)], &["sql", "-c", &statement]);
        assert_eq!(ended.code, None, "{point}: {}{}", ended.out, ended.err);
        let done = if *happens { touched } else { 0 };
        gone += if is_delete { done } else { 0 };
        if !is_delete {
            assert_eq!(number(&format!("select count(*) as n from t where noise = 'n{round}'")), done, "{point}");
        }
        assert_eq!(number("select count(*) as n from t"), ROWS - gone, "{change} at {point}");
        assert_eq!(number("select count(distinct id) as n from t"), ROWS - gone, "{change} at {point}");
    }
    let log = folder.path().join(".lode/lake/public/t/_delta_log");
    let commits = std::fs::read_dir(log).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()));
    assert!(commits.flatten().any(|commit| commit.contains("\"deletionVector\"")), "vectors were at work");
}
