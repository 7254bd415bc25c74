-- How much each station is used, from the first to the last session of all stations.
with period as (
    select extract(epoch from max(ended_at) - min(started_at)) / 3600.0 as hours
    from {{ ref('charging') }}
),

used as (
    select
        station_id,
        count(*) as sessions,
        sum(kwh) as kwh,
        sum(plugged_hours) as plugged_hours,
        sum(price) as revenue
    from {{ ref('charging') }}
    group by station_id
)

select
    stations.station_id,
    stations.city,
    stations.connector,
    cast(stations.power_kw as numeric(6, 1)) as power_kw,
    coalesce(used.sessions, 0) as sessions,
    cast(coalesce(used.kwh, 0) as numeric(12, 2)) as kwh,
    cast(coalesce(used.revenue, 0) as numeric(12, 2)) as revenue_eur,
    cast(coalesce(used.plugged_hours, 0) as numeric(10, 1)) as plugged_hours,
    -- Above 100 where several plugs of a station are taken at once.
    cast(coalesce(used.plugged_hours, 0) / period.hours * 100 as numeric(6, 1)) as plugged_pct
from {{ ref('stations') }} as stations
cross join period
left join used on stations.station_id = used.station_id
