-- Fault codes by the number of cars that sent them.
with sent as (
    select vin, measured_at, unnest(dtc) as code
    from {{ ref('telemetry') }}
)

select
    sent.code,
    codes.meaning,
    codes.severity,
    count(distinct sent.vin) as cars,
    min(sent.measured_at) as first_at,
    max(sent.measured_at) as last_at
from sent
left join {{ ref('fault_codes') }} as codes on sent.code = codes.code
group by sent.code, codes.meaning, codes.severity
