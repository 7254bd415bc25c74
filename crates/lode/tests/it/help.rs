use super::support::Folder;

#[test]
fn the_help_lists_what_works() {
    let folder = Folder::empty();
    insta::assert_snapshot!(folder.lode(&["--help"]).done(), @r#"
    A whole medallion lakehouse in one binary: files in, gold tables out, exactly once

    Usage: lode [OPTIONS] <COMMAND>

    Commands:
      init        Make a small project: one CSV, one model
      demo        The EV demo: a fleet's files to gold numbers in one command, offline
      up          Serve the project: watch its sources and answer other commands
      ingest      Land what is there now, once, and say what became of each row
      build       Seeds, models and tests in graph order
      run         Models in graph order
      test        Tests of what is built
      seed        Load the CSV files of the project's seeds
      compile     Render the models into target/compiled, without running them
      ls          List the nodes that a selection names
      show        The first rows of a model, without building it
      sql         One SQL statement
      table       Look into a table: history, files, schema
      pipeline    Pipelines: what moves each table, and going on after a block
      quarantine  Rows that were refused: list, show, replay
      status      Sources, pipelines, tables and runs, with the sums that must hold
      doctor      Find what is wrong; exit 1 on a finding
      config      The settings in force
      prove       The promises, as commands that anybody can run

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
          --project-dir <DIR>    Folder of the project [default: this folder or the nearest parent with
                                 lode.yml or dbt_project.yml]
      -q, --quiet                Say nothing but data and errors
          --no-color             No colours
          --log-format <FORMAT>  Progress as text, or as one JSON object a line [default: text]
                                 [possible values: text, json]
          --lock-timeout <TIME>  How long to wait while another command holds the data folder [default:
                                 10m]

    Start here:
      lode demo                     a working lakehouse with gold numbers, offline
      lode init shop && cd shop     an own project
      lode ingest && lode build     land the files, build the models
      lode sql -c "select 1"        ask
    "#);
}

#[test]
fn each_command_has_an_example() {
    let folder = Folder::empty();
    let help = folder.lode(&["--help"]).done();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 19, "{names:?}");
    for name in names {
        let help = folder.lode(&[name, "--help"]).done();
        assert!(help.contains("Example"), "lode {name} --help has no example:\n{help}");
    }
}

#[test]
fn the_version_is_data() {
    let folder = Folder::empty();
    assert_eq!(folder.lode(&["--version"]).done(), format!("lode {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_is_exit_2_and_names_the_near_one() {
    let ended = Folder::empty().lode(&["ingset"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.err.contains("'ingest'"), "{}", ended.err);
}
