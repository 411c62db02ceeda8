from theory import profiles

profiles.register()
