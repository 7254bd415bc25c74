-- Each session once, with the century put back.
with numbered as (
    select
        *,
        row_number() over (partition by session_id order by _line) as copy_no
    from {{ source('bronze', 'charging_sessions') }}
),

timed as (
    select
        session_id,
        nullif(vin, '') as vin,
        station_id,
        cast('20' || substr(started, 3) || '+00' as timestamptz) as started_at,
        cast('20' || substr(ended, 3) || '+00' as timestamptz) as ended_at,
        kwh,
        platform
    from numbered
    where copy_no = 1
)

select
    *,
    extract(epoch from ended_at - started_at) / 3600.0 as plugged_hours
from timed
