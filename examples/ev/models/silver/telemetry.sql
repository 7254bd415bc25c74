{{ config(materialized='incremental', incremental_strategy='merge', unique_key=['vin', 'seq']) }}

-- Each reading once, with its clock and position put right or marked, and both firmware shapes as one.
with received as (
    select
        *,
        row_number() over (partition by vin, seq order by recv_ts) as copy_no
    from {{ source('bronze', 'telemetry') }}
    {% if is_incremental() -%}
    where _landed_at > (select coalesce(max(landed_at), timestamptz '1970-01-01') from {{ this }})
    {%- endif %}
),

vins as (
    select vin, {{ vin_is_valid('vin') }} as vin_ok
    from (select distinct vin from received) as distinct_vins
),

checked as (
    select
        received.*,
        vins.vin_ok,
        -- A reading is sent on the day it is measured, or held in a radio hole over midnight.
        substr(ts, 1, 10) in (
            cast(cast(recv_ts as date) as text),
            cast(cast(recv_ts - interval '1 day' as date) as text)
        ) as clock_ok,
        lat between -90 and 90 and lon between -180 and 180 as position_ok
    from received
    inner join vins on received.vin = vins.vin
    where copy_no = 1
),

timed as (
    select
        *,
        -- A broken clock loses the date, never the time of day: the date comes from the receipt.
        case
            when clock_ok then ts
            when substr(ts, 12, 8) <= substr(cast(recv_ts as text), 12, 8)
                then cast(cast(recv_ts as date) as text) || 'T' || substr(ts, 12, 8) || 'Z'
            else cast(cast(recv_ts - interval '1 day' as date) as text) || 'T' || substr(ts, 12, 8) || 'Z'
        end as measured_text
    from checked
)

select
    vin,
    seq,
    cast(measured_text as timestamptz) as measured_at,
    recv_ts as received_at,
    clock_ok,
    speed_kmh,
    coalesce(soc_pct, cast(soc['pct'] as double precision)) as soc_pct,
    cast(soc['kwh'] as double precision) as battery_kwh,
    battery_c,
    battery_v,
    battery_a,
    case when position_ok then lat end as lat,
    case when position_ok then lon end as lon,
    position_ok,
    odometer_km,
    charging,
    station_id,
    ambient_c,
    hvac_kw,
    fw as firmware,
    dtc,
    vin_ok,
    _landed_at as landed_at
from timed
