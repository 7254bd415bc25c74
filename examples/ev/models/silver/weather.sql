{{ config(materialized='view') }}

select
    city,
    ts_from,
    ts_to,
    cast(ambient_c as double precision) as ambient_c,
    humidity_pct,
    cast(wind_ms as double precision) as wind_ms
from {{ source('bronze', 'weather') }}
