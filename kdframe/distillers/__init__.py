import kdframe.distillers.afd  # 2021, where the networks look, by attention
import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.ft  # 2018, factors of the last map
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.ofa_stages  # 2023, heads at the student's stages
import kdframe.distillers.semckd  # 2020, every stage with every stage, by attention
import kdframe.distillers.simkd  # 2022, the teacher's classifier reused
import kdframe.distillers.sp  # 2019, which images are alike
import kdframe.distillers.srrl  # 2021, features right for the teacher's classifier
