"""Users of locust, who know the protocol and the HTTP interface only.

Registers on TCP, a monitor, operators and members at the admin API, MQTT clients, a thief.
"""
