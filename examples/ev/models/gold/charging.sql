-- One row a charging with energy, with the price that held at its start.
select
    sessions.session_id,
    sessions.vin,
    sessions.station_id,
    stations.city,
    stations.is_fast,
    sessions.started_at,
    sessions.ended_at,
    cast(sessions.plugged_hours as numeric(8, 2)) as plugged_hours,
    sessions.kwh,
    tariffs.tariff,
    tariffs.price_per_kwh,
    cast(sessions.kwh * tariffs.price_per_kwh as numeric(10, 2)) as price,
    tariffs.currency
from {{ ref('charging_sessions') }} as sessions
inner join {{ ref('stations') }} as stations on sessions.station_id = stations.station_id
left join {{ ref('tariffs') }} as tariffs
    on stations.tariff_id = tariffs.tariff_id
    and cast(sessions.started_at as date) between tariffs.valid_from and tariffs.valid_to
    and extract(hour from sessions.started_at) >= tariffs.from_hour
    and extract(hour from sessions.started_at) < tariffs.to_hour
where sessions.kwh > 0
