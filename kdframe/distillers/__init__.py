import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.ctkd  # 2023, soft labels at a temperature that is learned
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.dml  # 2018, two networks that learn from each other
import kdframe.distillers.embedding_cosine  # the angle of embeddings
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.hard_label  # 2021, the teacher's decision as the label
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.kd_ensemble  # 2015, several teachers' soft labels
import kdframe.distillers.logit_mse  # 2014, the logits themselves
import kdframe.distillers.nkd  # 2023, the label's belief and the others' ranking
import kdframe.distillers.ofa  # 2023, soft labels with the label enhanced
import kdframe.distillers.soft_target_ce  # 2015, soft labels as a cross entropy
import kdframe.distillers.sp  # 2019, which images are alike
import kdframe.distillers.tfkd  # 2020, soft labels without a teacher
import kdframe.distillers.wsld  # 2021, soft labels weighed by image
