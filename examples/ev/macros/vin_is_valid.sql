{# The check digit of a vehicle identification number: place 9 must equal the weighted sum of all places, modulo 11
   (10 is written X). Source: 49 CFR 565.15 (c). #}
{% macro vin_is_valid(column) -%}
    length({{ column }}) = 17 and substr({{ column }}, 9, 1) = substr('0123456789X', 1 + cast((
    {%- for weight in [8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2] if weight > 0 %}
        {%- set place = loop.index if loop.index < 9 else loop.index + 1 %}
        {{ weight }} * ((strpos('0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ', substr({{ column }}, {{ place }}, 1)) + 9) % 10)
        {%- if not loop.last %} + {% endif %}
    {%- endfor %}
    ) % 11 as integer), 1)
{%- endmacro %}
