"""What is counted and measured, as figures that monitoring systems read."""
