-- Each reading with a whole time stamp, its position checked, and the way since the start of its trip.
with checked as (
    select
        *,
        -- Month first, with or without leading zeros; `90/02/2032`, `03/00/2000` and `02/30/2021` are no dates.
        case
            when "Date" ~ '^(0?[13578]|1[02])/(0?[1-9]|[12][0-9]|3[01])/20[0-9][0-9]$'
                or "Date" ~ '^(0?[469]|11)/(0?[1-9]|[12][0-9]|30)/20[0-9][0-9]$'
                or "Date" ~ '^0?2/(0?[1-9]|1[0-9]|2[0-8])/20[0-9][0-9]$'
                -- Each fourth year of this century is a leap year, 2000 too.
                or "Date" ~ '^0?2/29/20([02468][048]|[13579][26])$'
                then make_date(
                    cast(split_part("Date", '/', 3) as integer),
                    cast(split_part("Date", '/', 1) as integer),
                    cast(split_part("Date", '/', 2) as integer)
                )
        end as written_on,
        "LAT" between -90 and 90 and "LON" between -180 and 180 and "LAT" <> 0 and "LON" <> 0 as gps_ok
    from {{ source('bronze', 'readings') }}
),

dated as (
    select
        *,
        written_on is not null as date_ok,
        -- The logger lost the date, never the time of day; no trip goes over midnight (see `one_date` in silver.yml).
        min(written_on) over (partition by trip) as driven_on,
        max(written_on) over (partition by trip) as last_driven_on
    from checked
),

timed as (
    select
        *,
        driven_on = last_driven_on as has_one_date,
        -- The car's clock. Its zone is not stated; it is taken as UTC.
        cast(cast(driven_on as text) || 'T' || cast("Time" as text) || 'Z' as timestamptz) as measured_at
    from dated
)

select
    'RSK-TWIZY-1' as vehicle_id,
    trip,
    measured_at,
    "Soc" as soc_pct,
    "Speed" as speed_kmh,
    "Mode" as mode,
    case when gps_ok then "LAT" end as lat,
    case when gps_ok then "LON" end as lon,
    case when gps_ok then "ALT" end as alt_m,
    case when gps_ok then "GpsSpeed" end as gps_speed_kmh,
    "Temperature" as ambient_c,
    "Humidity" as humidity_pct,
    "Weather" as sky,
    "WindSpeedAv" as wind_ms,
    "Traffic" as traffic,
    "SpeedLimit" as speed_limit_kmh,
    date_ok,
    gps_ok,
    has_one_date,
    -- One reading a second: the speed of each second, added up; to 0.1 m, a half to the even digit.
    round(sum("Speed" / 3600.0) over (
        partition by trip order by measured_at rows between unbounded preceding and current row
    ) * 10000) / 10000 as odometer_km
from timed
