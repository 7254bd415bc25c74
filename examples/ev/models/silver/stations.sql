select
    station_id,
    city,
    lat,
    lon,
    connector,
    connector = 'ccs2' as is_fast,
    cast(power_kw as double precision) as power_kw,
    tariff_id,
    cast(opened_on as date) as opened_on
from {{ source('bronze', 'stations') }}
