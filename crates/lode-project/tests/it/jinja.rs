//! Jinja as dbt means it: a probe is the text of a model, its answer the SQL.

use std::sync::Arc;

use arrow::array::{Int64Array, StringArray};
use lode_project::Command;

use crate::support::{Bench, batch, outcome};

/// (text, wanted): wanted is what Jinja2 in dbt prints, white space squeezed.
const PROBES: &[(&str, &str)] = &[
    (
        "{{ 1 + 2 }} {{ 'a' ~ 1 }} {{ [1, 'x', none, true] }} {{ {'a': [1]} }} {{ (1, 2) }}",
        "3 a1 [1, 'x', None, True] {'a': [1]} (1, 2)",
    ),
    (
        "{{ true }} {{ none }} {{ 1.0 }} {{ 1e20 }} {{ 1e-7 }} {{ 7 // 2 }} {{ 7 % 2 }} {{ 2 ** 3 }}",
        "True None 1.0 1e+20 1e-07 3 1 8",
    ),
    (
        "{% set l = [] %}{% do l.append(1) %}{% do l.extend([2, 3]) %}{% do l.insert(0, 9) %}{{ l }} {{ l | length }}",
        "[9, 1, 2, 3] 4",
    ),
    (
        "{% set l = [3, 1, 2] %}{% do l.sort() %}{{ l }}{% do l.reverse() %}{{ l }} {{ l.pop() }} {{ l.index(2) }} {{ l[-1] }}",
        "[1, 2, 3][3, 2, 1] 1 1 2",
    ),
    ("{% set a = [1] %}{% set b = a %}{% do b.append(2) %}{{ a }}", "[1, 2]"),
    ("{% set a = [1] %}{% set b = a + [5] %}{% do a.append(2) %}{{ a }} {{ b }}", "[1, 2] [1, 5]"),
    (
        "{% set d = {} %}{% do d.update({'x': 1}) %}{% do d.update(y=2) %}{{ d }} {{ d.get('z', 0) }} {{ d.pop('x') }} {{ d.keys() | list }}",
        "{'x': 1, 'y': 2} 0 1 ['y']",
    ),
    ("{% set d = {'items': 1} %}{% for k, v in d.items() %}{{ k }}={{ v }}{% endfor %} {{ d['items'] }}", "items=1 1"),
    (
        "{% do x.append(1) if false %}{% for i in range(3) %}{{ i }}{% if not loop.last %},{% endif %}{% endfor %}",
        "0,1,2",
    ),
    ("{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "6"),
    ("{{ '%s-%03d' % ('a', 7) }} {{ 'x%s' % 1 }} {{ '{0}/{b}'.format(1, b=2) }}", "a-007 x1 1/2"),
    (
        "{{ 'a,b'.split(',') }} {{ 'Ab'.swapcase() }} {{ '7'.zfill(3) }} {{ 'abc'.removeprefix('a') }} {{ ' x '.strip() }} {{ 'a-b-c'.rsplit('-', 1) }}",
        "['a', 'b'] aB 007 bc x ['a-b', 'c']",
    ),
    (
        "{{ 'x' is string }} {{ foo is defined }} {{ foo is undefined }} {{ [1] is sequence }} {{ 3 in [1, 3] }}",
        "True False True True True",
    ),
    (
        "{{ foo | default('d') }} {{ '' | default('e', true) }} {{ ' 5 ' | int }} {{ [1, 2] | join('-') }} {{ 'a' | upper }}",
        "d e 5 1-2 A",
    ),
    ("{{ add(1, 2) }} {{ add(1) }} {{ add(b=5, a=1) }}", "3 11 6"),
    ("{{ typed() | length }} {{ typed()[1] }} {{ kinds(1, 2, x=3) }}", "2 b (1,) (2,) {'x': 3}"),
    ("{{ fact(5) }} {{ chained(1) }} {{ shop.add(1, 1) }} {{ dbt.type_string() }}", "120 1-1 2 text"),
    (
        "{% set d = modules.datetime.datetime %}{{ d(2024, 1, 31).replace(month=2, day=1) }} {{ d(2024, 2, 1).replace(day=31, month=1) }} {{ d(2024, 2, 29, 5).replace(year=2023, day=1, minute=7) }}",
        "2024-02-01 00:00:00 2024-01-31 00:00:00 2023-02-01 05:07:00",
    ),
    ("{% call wrap('b') %}in{{ 1 }}side{% endcall %}", "<b>in1side</b>"),
    (
        "{{ pick() }} {{ adapter.quote('a b') }} {{ target.type }} {{ target.schema }} {{ target.name }} {{ adapter.type() }}",
        "postgres \"a b\" postgres public dev lode",
    ),
    (
        "{{ var('v1') }} {{ var('missing', 'dflt') }} {{ var('lst')[0] }} {{ env_var('LODE_NO_SUCH_VARIABLE', 'e') }}",
        "one dflt 1 e",
    ),
    (
        "{{ tojson({'a': [1, none]}) }} {{ fromjson('{\"k\": 2}').k }} {{ fromyaml('a: yes').a }} {{ local_md5('abc') }}",
        "{\"a\": [1, null]} 2 True 900150983cd24fb0d6963f7d28e17f72",
    ),
    ("{{ zip([1, 2], ['a', 'b']) | list }} {{ set([1, 1, 2]) | list | length }}", "[(1, 'a'), (2, 'b')] 2"),
    (
        "{{ run_started_at.strftime('%Y-%m-%d') }} {{ modules.datetime.datetime.strptime('2024-02-03', '%Y-%m-%d').isoformat() }} {{ modules.re.sub('a+', 'x', 'caab') }}",
        "2026-01-02 2024-02-03T00:00:00 cxb",
    ),
    ("{% raw %}{{ x }}{% endraw %}{# gone #}{% set t %}block{% endset %} {{ t }}", "{{ x }} block"),
    (
        "{{ this }} {{ this.schema }} {{ this.identifier }} {{ model.name }} {{ this.include(schema=false) }}",
        "\"public\".\"probe\" public probe probe \"probe\"",
    ),
    (
        "{%- set q = run_query('select probe_rows') -%}{% if execute %}{{ q.columns[0].values() }} {{ q.rows[1]['name'] }} {{ q.columns['name'].values() | join(',') }} {% for r in q %}{{ r[0] }}{% endfor %}{% endif %}",
        "(1, 2) b a,b 12",
    ),
    (
        "{% call statement('s', fetch_result=True) %}select probe_rows{% endcall %}{% if execute %}{{ load_result('s')['data'][0][1] }}{% endif %}",
        "a",
    ),
    (
        "{% if is_incremental() %}no{% else %}yes{% endif %} {{ config.get('materialized') }} {{ config.get('nothing', 'else') }}",
        "yes table else",
    ),
];

const MACROS: &str = "{% macro add(a, b=a * 10) %}{{ return(a + b) }}{% endmacro %}
{% macro typed(x: list = ['a', 'b']) %}{% do return(x) %}{% endmacro %}
{% macro kinds(a) %}({{ a }},) ({{ varargs | join(',') }},) {{ kwargs }}{% endmacro %}
{% macro fact(n) %}{% if n <= 1 %}{{ return(1) }}{% endif %}{{ return(n * fact(n - 1)) }}{% endmacro %}
{% macro chained(a) -%}
  {%- set b = a -%}
  {{ a }}-{{ b }}
{%- endmacro %}
{% macro wrap(tag) -%}<{{ tag }}>{{ caller() }}</{{ tag }}>{%- endmacro %}
{% macro pick() %}{{ return(adapter.dispatch('pick')()) }}{% endmacro %}
{% macro default__pick() %}default{% endmacro %}
{% macro postgres__pick() %}postgres{% endmacro %}
";

#[tokio::test]
async fn probes_print_what_dbt_prints() {
    let mut wrong = Vec::new();
    for (text, wanted) in PROBES {
        let model = format!("{{{{ config(materialized='table') }}}}{text}");
        let bench = Bench::new(&[
            ("dbt_project.yml", "name: shop\nvars: {v1: one, lst: [1, 2]}\n"),
            ("models/probe.sql", &model),
            ("macros/m.sql", MACROS),
        ]);
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![1, 2]))),
            ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
        ]);
        bench.warehouse.answers.lock().push(("probe_rows".into(), rows));
        let results = bench.run(Command::Compile, &["probe"]).await;
        let result = &results.nodes[0];
        let got = match &result.compiled {
            Some(sql) => sql.split_whitespace().collect::<Vec<_>>().join(" "),
            None => outcome(&results, "probe").problem.as_ref().map(|problem| problem.render()).unwrap_or_default(),
        };
        if got != *wanted {
            wrong.push(format!("{text}\n   wanted {wanted}\n   got    {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_lines_of_a_model_and_the_space_in_a_macro_stay() {
    let bench = Bench::new(&[
        ("models/m.sql", "{{ config(materialized='table') }}\n\nselect\n  {{ cols() }}\nfrom t\n"),
        ("macros/m.sql", "{% macro cols() %}\n  a,\n  b\n{% endmacro %}"),
    ]);
    let results = bench.run(Command::Compile, &[]).await;
    assert_eq!(results.nodes[0].compiled.as_deref(), Some("\n\nselect\n  \n  a,\n  b\n\nfrom t"));
}

#[tokio::test]
async fn a_macro_may_replace_what_is_built_in() {
    let bench = Bench::new(&[
        ("models/m.sql", "{{ config(schema='gold') }}select {{ ref('n') }}"),
        ("models/n.sql", "select 1"),
        (
            "macros/m.sql",
            "{% macro generate_schema_name(custom_schema_name, node) -%}{{ custom_schema_name or target.schema }}{%- endmacro %}
             {% macro ref(name) %}{{ return(builtins.ref(name).include(schema=false)) }}{% endmacro %}",
        ),
    ]);
    let results = bench.run(Command::Compile, &["m"]).await;
    assert_eq!(results.nodes[0].compiled.as_deref(), Some("select \"n\""));
    assert_eq!(results.nodes[0].node.relation.as_deref(), Some("gold.m"));
}

#[tokio::test]
async fn deep_recursion_is_an_error_and_not_a_crash() {
    let bench = Bench::new(&[
        ("models/m.sql", "{% if execute %}{{ loop_(1) }}{% endif %}"),
        ("macros/m.sql", "{% macro loop_(n) %}{{ loop_(n + 1) }}{% endmacro %}"),
    ]);
    let results = bench.run(Command::Compile, &[]).await;
    let problem = outcome(&results, "m").problem.as_ref().unwrap().render();
    assert!(problem.contains("200 deep"), "{problem}");
}
