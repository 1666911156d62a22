"""Results for other programs: ELAN, NOVA, BORIS, CSV, FHIR, EDF+; and markers back from them.

``recording`` reads a folder of results, ``tiers`` turns it into named spans and regular samples,
``markers`` keeps what people wrote beside it; one module per format does the rest.
"""
