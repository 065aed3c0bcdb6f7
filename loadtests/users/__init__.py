"""Users of locust: registers on TCP, readers of the HTTP layer, MQTT clients, a thief. They know the protocol only."""
