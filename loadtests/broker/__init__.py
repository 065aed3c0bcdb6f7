"""The MQTT broker alone, measured by clients that do no more than they must."""
